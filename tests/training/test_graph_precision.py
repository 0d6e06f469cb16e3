"""Graphs in fp16 and int8: what is computed in which type, for each family of scorers; what comes out is float32."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

from serving.graphs.manifest import Precision
from tests.graphs import build_graph
from tests.training.patterns import image_set
from tests.training.runs import make_data_root, make_run
from training import graph_precision
from training.data.image_set import Images
from training.export import ExportError, self_check
from training.graph_precision import TOLERANCES, precision_graph, range_images
from training.graph_runner import GraphRunner
from training.onnx_graph import scorer_graph
from training.quantisation import quantised_graph
from training.run_folder import RunFolder, load_network
from training.scorer import build_scorer
from training.training_run import calibration_images, load_split

WITH_VIEWS = ("cifar10-rotations", "cifar10-one-class-transformations")
FAMILIES = (*WITH_VIEWS, "cifar10-baseline")
SMALL = ("data.size=16", "data.shorter_side=16")
FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16

GraphOf = Callable[[str, Precision], onnx.ModelProto]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data_root(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def runs(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    folder = tmp_path_factory.mktemp("runs")
    return {recipe: make_run(folder / recipe, root, recipe, *SMALL) for recipe in FAMILIES}


@pytest.fixture(scope="module")
def graph_of(runs: dict[str, RunFolder], root: Path) -> GraphOf:
    """The graph of a recipe's run in a precision; each is made once, and that in fp32 only where int8 needs it."""

    @cache
    def make(recipe: str, precision: Precision) -> onnx.ModelProto:
        network, resolved = load_network(runs[recipe])
        if precision == "fp32":
            return scorer_graph(build_scorer(network, resolved), resolved.data.size)
        reference = make(recipe, "fp32") if precision == "int8" else onnx.ModelProto()
        return precision_graph(reference, network, resolved, precision, root, runs[recipe].training_record())

    return make


@pytest.fixture(scope="module")
def images(runs: dict[str, RunFolder], root: Path) -> Images:
    return load_split(runs["cifar10-rotations"].recipe(), root, "test").pixels.read(0, 7)


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of every value of a graph, by name."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = {
        value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)
    }
    return values | {constant.name: constant.data_type for constant in graph.initializer}


def inputs_of(model: onnx.ModelProto, *operators: str) -> list[int]:
    """Return the type of the first input of each node of these operators, in the graph's order."""
    types = types_of(model)
    return [types[node.input[0]] for node in model.graph.node if node.op_type in operators]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "precision"), [*((recipe, "fp16") for recipe in FAMILIES), *((recipe, "int8") for recipe in WITH_VIEWS)]
)
def test_float32_comes_out_within_the_tolerance_at_any_batch_size(
    recipe: str, precision: Precision, graph_of: GraphOf, runs: dict[str, RunFolder], images: Images
) -> None:
    """``self_check`` runs batches of 1, 2 and 7, and holds names, shapes and float32, too."""
    model = graph_of(recipe, precision)
    onnx.checker.check_model(model, full_check=True)
    assert types_of(model)["images"] == onnx.TensorProto.UINT8
    scorer = build_scorer(*load_network(runs[recipe]))
    difference = self_check(
        scorer, GraphRunner(model.SerializeToString(), scorer.views, "cpu"), images, TOLERANCES[precision]
    )
    assert difference > 1e-6  # it is another precision indeed


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "said"), [(10, "0.02 is allowed"), (np.inf, "differs from PyTorch's by inf")])
def test_a_half_graph_that_is_too_far_off_is_refused(
    factor: float, said: str, graph_of: GraphOf, runs: dict[str, RunFolder], images: Images
) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(graph_of("cifar10-baseline", "fp16"))
    weights = next(
        constant for constant in model.graph.initializer if "heads" in constant.name and len(constant.dims) == 2
    )
    weights.CopyFrom(
        onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) * np.float32(factor), weights.name)
    )
    scorer = build_scorer(*load_network(runs["cifar10-baseline"]))
    runner = GraphRunner(model.SerializeToString(), scorer.views, "cpu")
    with pytest.raises(ExportError, match=said):
        self_check(scorer, runner, images, TOLERANCES["fp16"])
    if not np.isfinite(factor):
        with pytest.raises(ExportError, match=said):
            self_check(scorer, runner, images, TOLERANCES["int8"])


@pytest.mark.slow
@pytest.mark.parametrize("recipe", FAMILIES)
def test_at_fp16_the_network_is_half_and_the_scores_are_float(recipe: str, graph_of: GraphOf) -> None:
    model = graph_of(recipe, "fp16")
    assert set(inputs_of(model, "Conv", "BatchNormalization", "Relu")) == {HALF}
    assert set(inputs_of(model, "Gemm", "LogSoftmax", "Exp", "Neg", "ReduceSum")) == {FLOAT}
    types = types_of(model)
    weights = [types[node.input[1]] for node in model.graph.node if node.op_type == "Conv"]
    assert set(weights) == {HALF}
    large = [
        constant for constant in model.graph.initializer if constant.data_type == FLOAT and len(constant.dims) == 4
    ]
    assert not large  # no float copy of a convolution's weights is left


@pytest.mark.slow
@pytest.mark.parametrize("recipe", WITH_VIEWS)
def test_at_int8_all_convolutions_but_the_first_take_integers_by_channel(recipe: str, graph_of: GraphOf) -> None:
    model = graph_of(recipe, "int8")
    assert not model.metadata_props
    assert {opset.domain for opset in model.opset_import} == {""}  # any ONNX runtime has its operators
    makers = {output: node for node in model.graph.node for output in node.output}
    constants = {constant.name: onnx.numpy_helper.to_array(constant) for constant in model.graph.initializer}
    first, *others = [node for node in model.graph.node if node.op_type == "Conv"]
    assert first.input[1] in constants
    assert constants[first.input[1]].dtype == np.float32
    for convolution in others:
        assert makers[convolution.input[0]].op_type == "DequantizeLinear"
        weights, scales = (constants[name] for name in makers[convolution.input[1]].input[:2])
        assert weights.dtype == np.int8
        assert np.abs(weights.astype(int)).max() <= 64  # 7 bits: no product saturates
        assert scales.shape == weights.shape[:1]
    heads = [node for node in model.graph.node if node.op_type == "Gemm"]
    assert heads
    assert all(constants[head.input[1]].dtype == np.float32 for head in heads)


@pytest.mark.parametrize("recipe", FAMILIES)
def test_ranges_come_from_images_trained_on_and_not_from_those_that_calibrate(
    recipe: str, runs: dict[str, RunFolder], root: Path
) -> None:
    resolved = runs[recipe].recipe()
    drawn, held_out = range_images(resolved, root, None), calibration_images(resolved, root, None)[0]
    assert len(drawn) == runs[recipe].training_record()["data"]["count"]  # fewer than the limit
    assert set(drawn.labels) == set(held_out.labels)
    calibrating = {image.tobytes() for image in held_out.pixels.read(0, len(held_out))}
    assert not calibrating & {image.tobytes() for image in drawn.pixels.read(0, len(drawn))}


def test_ranges_come_from_so_many_images_at_most(
    runs: dict[str, RunFolder], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = runs["cifar10-rotations"].recipe()
    every = range_images(recipe, root, None)
    monkeypatch.setattr(graph_precision, "RANGE_IMAGES", 9)
    first, second = (range_images(recipe, root, None) for _ in range(2))
    assert len(first) == 9
    np.testing.assert_array_equal(first.pixels.read(0, 9), second.pixels.read(0, 9))
    assert len(set(first.labels)) > 1
    assert len(every) > 9


def test_a_network_of_one_convolution_has_nothing_to_quantise() -> None:
    images = image_set(per_class=2)
    for convolutions in (0, 1):
        model = build_graph()
        kernel = onnx.numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "kernel")
        model.graph.initializer.append(kernel)
        for index in range(convolutions):
            node = onnx.helper.make_node(
                "Conv", ["planes", "kernel"], [f"features-{index}"], name=f"convolution-{index}"
            )
            model.graph.node.append(node)
        with pytest.raises(ExportError, match="no convolution after its first"):
            quantised_graph(model, images, 4)
