"""Tiny real graphs: ONNX files of the graph contract, built by hand, whose outputs follow from pixels' brightness.

The darkest quadrant of an image decides its class: top left 0, top right 1, bottom left 2, and 0 for an even grey. A
black image is the least anomalous and a white one the most, for every formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from serving.graphs.manifest import (
    INPUT_NAME,
    METADATA_KEY,
    Calibration,
    Manifest,
    RecipeRecord,
    ScoreFormula,
    TrainingData,
    ViewGridSpec,
    dump_manifest,
)
from serving.images.fitting import Fitting

DIGEST = "sha256:" + "0123456789abcdef" * 4
TRANSFORMATION_GRID = ViewGridSpec(
    rotations=[0, 1, 2, 3],
    vertical=[0, 8, -8],
    horizontal=[0, 8, -8],
    order="rotate_translate",
    axes=["rotation", "vertical", "horizontal"],
    heads=["rotation", "vertical", "horizontal"],
)
ROTATION_GRID = TRANSFORMATION_GRID.model_copy(
    update={"vertical": [0], "horizontal": [0], "axes": ["rotation"], "heads": ["rotation"]}
)


def write_graph(models: Path, name: str = "colours", **options: Any) -> Path:
    """Write a graph to ``models/NAME/model.onnx`` and return that path; ``options`` as ``build_graph``."""
    path = models / name / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(build_graph(name, **options).SerializeToString())
    return path


def build_graph(
    name: str = "colours",
    *,
    formula: ScoreFormula = "kl_rotation",
    size: int = 32,
    shorter_side: int | None = None,
    classes: Sequence[str] = ("cat", "dog", "frog"),
    calibration: Sequence[float] | None = None,
    in_class: str | None = None,
    training_digest: str = DIGEST,
    calibrated_on: str = "greys",
    calibration_digest: str = DIGEST,
    fixed_batch: int | None = None,
) -> onnx.ModelProto:
    """Return a classifier (``formula`` kl_rotation, kl or msp) or a one-class graph (transformation or method).

    ``calibration`` holds its scores, by default the graph's own on 99 evenly grey images from black to light grey, so
    that a white image has p-value 0.01; ``calibrated_on`` names its images. ``size`` is even. ``fixed_batch`` breaks
    the contract.
    """
    model = _model(formula, size, len(classes), fixed_batch)
    if calibration is None:
        greys = np.linspace(0, 200, 99).astype(np.uint8)
        images = np.broadcast_to(greys[:, None, None, None], (99, size, size, 3))
        calibration = np.sort(run_model(model, images)["anomaly_score"]).tolist() if fixed_batch is None else [0.0]
    one_class = formula in ("transformation", "method")
    grids = {"kl_rotation": ROTATION_GRID, "transformation": TRANSFORMATION_GRID}
    manifest = Manifest(
        schema_version=1,
        name=name,
        kind="one_class" if one_class else "classifier",
        method={"transformation": "transformation prediction", "method": "brightness"}.get(
            formula, "auxiliary rotations"
        ),
        score=formula,
        classes=[] if one_class else list(classes),
        normal=(in_class or "all of colours") if one_class else None,
        fitting=Fitting(size=size, shorter_side=shorter_side or size),
        view_grid=grids.get(formula),
        recipe=RecipeRecord(name="by-hand", scale="smoke", settings={"network": {"depth": 1}}),
        network="quadrant brightness",
        precision="fp32",
        training_data=TrainingData(
            name="colours", split="train", digest=training_digest, available=100, count=100, in_class=in_class
        ),
        metrics={"accuracy": 0.5},
        calibration=Calibration(
            n=len(calibration), scores=list(calibration), data=calibrated_on, split="train", digest=calibration_digest
        ),
        libraries={"onnx": onnx.__version__},
        source_revision="unknown",
    )
    set_metadata(model, dump_manifest(manifest))
    onnx.checker.check_model(model, full_check=True)
    return model


def set_metadata(model: onnx.ModelProto, manifest: str) -> None:
    """Set the manifest's JSON string in the ONNX metadata, in place of any there."""
    helper.set_model_props(model, {METADATA_KEY: manifest})


def without_free_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Break a transformation graph so that it loads, and runs with five images only."""
    for constant in model.graph.initializer:
        if constant.name == "view_shape":
            constant.CopyFrom(numpy_helper.from_array(np.array([5, 4, 3, 3, 3], np.int64), "view_shape"))
    return model


def run_model(model: onnx.ModelProto, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Run a model on uint8 ``[n, size, size, 3]`` with ONNX Runtime alone; return every output."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {INPUT_NAME: images}), strict=True))


def solid(value: int | Sequence[int], size: int = 32) -> NDArray[np.uint8]:
    """Return one image of one colour, uint8 ``[size, size, 3]``."""
    return np.full((size, size, 3), value, dtype=np.uint8)


def _model(formula: ScoreFormula, size: int, classes: int, fixed_batch: int | None) -> onnx.ModelProto:
    batch = fixed_batch or "batch"
    nodes = [
        helper.make_node("Cast", [INPUT_NAME], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["values", "white"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["pooled"], kernel_shape=[size // 2] * 2, strides=[size // 2] * 2),
        helper.make_node("ReduceMean", ["pooled", "channel_axis"], ["grid"], keepdims=0),
        helper.make_node("Flatten", ["grid"], ["quadrants"], axis=1),  # [batch, 4], 0 black to 1 white
    ]
    constants: dict[str, NDArray[Any]] = {
        "white": np.array(255, np.float32),
        "channel_axis": np.array([1], np.int64),
    }
    shapes: dict[str, list[int | str]] = {"anomaly_score": [batch]}
    if formula == "transformation":
        shapes["view_probabilities"] = [batch, 4, 3, 3, 3]
        _add_transformation(nodes, constants)
    elif formula == "method":
        constants["quadrant_axis"] = np.array([1], np.int64)
        nodes.append(helper.make_node("ReduceMean", ["quadrants", "quadrant_axis"], ["anomaly_score"], keepdims=0))
    else:
        shapes |= {"probabilities": [batch, classes], "kl_uniform": [batch]}
        _add_classifier(nodes, constants, classes)
        if formula == "kl_rotation":
            shapes |= {"rotation_loss": [batch], "view_probabilities": [batch, 4]}
            _add_rotations(nodes, constants)
        elif formula == "kl":
            nodes.append(helper.make_node("Neg", ["kl_uniform"], ["anomaly_score"]))
        else:
            constants["class_axis"] = np.array([1], np.int64)
            nodes += [
                helper.make_node("ReduceMax", ["probabilities", "class_axis"], ["highest"], keepdims=0),
                helper.make_node("Neg", ["highest"], ["anomaly_score"]),
            ]
    graph = helper.make_graph(
        nodes,
        "quadrants",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, [batch, size, size, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _add_classifier(nodes: list[onnx.NodeProto], constants: dict[str, NDArray[Any]], classes: int) -> None:
    """Add logits that grow with the darkness of the class's quadrant, class 0's also with that of the bottom right.

    KL[U || p] = -log K - mean log p, from log-softmax.
    """
    weights = np.zeros((4, classes), np.float32)
    for index in range(classes):
        weights[index % 4, index] = -8 / (1 + index // 4)
    weights[3, 0] -= 4
    constants |= {
        "class_weights": weights,
        "class_bias": -weights.sum(axis=0),
        "log_classes": np.log(np.array(classes, np.float32)),
        "logit_axis": np.array([1], np.int64),
    }
    nodes += [
        helper.make_node("Gemm", ["quadrants", "class_weights", "class_bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("LogSoftmax", ["logits"], ["log_probabilities"], axis=1),
        helper.make_node("ReduceMean", ["log_probabilities", "logit_axis"], ["mean_log"], keepdims=0),
        helper.make_node("Add", ["mean_log", "log_classes"], ["negative_kl"]),
        helper.make_node("Neg", ["negative_kl"], ["kl_uniform"]),
    ]


def _add_rotations(nodes: list[onnx.NodeProto], constants: dict[str, NDArray[Any]]) -> None:
    """Add the probability of each true rotation: sigmoid(3 - 5 times the brightness of its quadrant)."""
    constants |= {
        "slope": np.array(-5, np.float32),
        "offset": np.array(3, np.float32),
        "view_axis": np.array([1], np.int64),
    }
    nodes += [
        helper.make_node("Mul", ["quadrants", "slope"], ["steep"]),
        helper.make_node("Add", ["steep", "offset"], ["view_logits"]),
        helper.make_node("Sigmoid", ["view_logits"], ["view_probabilities"]),
        helper.make_node("Log", ["view_probabilities"], ["view_logs"]),
        helper.make_node("ReduceMean", ["view_logs", "view_axis"], ["mean_view_log"], keepdims=0),
        helper.make_node("Neg", ["mean_view_log"], ["rotation_loss"]),
        helper.make_node("Sub", ["rotation_loss", "kl_uniform"], ["anomaly_score"]),
    ]


def _add_transformation(nodes: list[onnx.NodeProto], constants: dict[str, NDArray[Any]]) -> None:
    """Add 4 x 3 x 3 views of three heads, each sigmoid(2 - a weighted brightness); the score is minus their sum."""
    weights = np.random.default_rng(0).uniform(0.5, 1.5, (4, 4 * 3 * 3 * 3)).astype(np.float32)
    constants |= {
        "view_weights": -weights,
        "view_bias": np.full(weights.shape[1], 2, np.float32),
        "view_shape": np.array([-1, 4, 3, 3, 3], np.int64),
        "view_axes": np.array([1, 2, 3, 4], np.int64),
    }
    nodes += [
        helper.make_node("Gemm", ["quadrants", "view_weights", "view_bias"], ["view_logits"]),
        helper.make_node("Sigmoid", ["view_logits"], ["flat_views"]),
        helper.make_node("Reshape", ["flat_views", "view_shape"], ["view_probabilities"]),
        helper.make_node("ReduceSum", ["view_probabilities", "view_axes"], ["recognised"], keepdims=0),
        helper.make_node("Neg", ["recognised"], ["anomaly_score"]),
    ]
