from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from serving.graphs.graph import Graph, GraphError, load_graph
from serving.graphs.manifest import METADATA_KEY, REQUIRED_OUTPUTS
from tests.graphs import build_graph, set_metadata, solid, without_free_batch, write_graph

FORMULAS = ["kl_rotation", "kl", "msp", "transformation", "method"]


def noise(count: int, size: int = 32) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def refusal(path: Path) -> str:
    with pytest.raises(GraphError) as caught:
        load_graph(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def saved(tmp_path: Path, model: onnx.ModelProto) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_what_a_graph_says_of_itself(tmp_path: Path) -> None:
    path = write_graph(tmp_path, "tiny", calibration=[0.0, 0.5, 2.0])
    graph = load_graph(path)
    assert (graph.name, graph.path, graph.provider) == ("tiny", path, "CPUExecutionProvider")
    assert graph.digest == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert graph.calibration_scores.dtype == np.float32
    assert graph.calibration_scores.tolist() == [0.0, 0.5, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        graph.calibration_scores[0] = 1


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_outputs(tmp_path: Path, formula: str, size: int, count: int) -> None:
    graph = load_graph(write_graph(tmp_path, formula=formula, size=size))
    outputs = graph.run(noise(count, size))
    assert tuple(outputs) == REQUIRED_OUTPUTS[formula]
    for name, values in outputs.items():
        assert values.dtype == np.float32
        assert values.shape == (count, *graph.manifest.output_shape(name))


def test_scores_follow_the_formulas_of_the_contract(tmp_path: Path) -> None:
    outputs = {
        formula: load_graph(write_graph(tmp_path, formula, formula=formula)).run(noise(5)) for formula in FORMULAS
    }
    probabilities = outputs["kl"]["probabilities"].astype(np.float64)
    kl_uniform = -np.log(3) - np.log(probabilities).mean(axis=1)
    rotation_loss = -np.log(outputs["kl_rotation"]["view_probabilities"].astype(np.float64)).mean(axis=1)
    assert outputs["kl"]["kl_uniform"] == pytest.approx(kl_uniform, abs=1e-5)
    assert outputs["kl"]["anomaly_score"] == pytest.approx(-kl_uniform, abs=1e-5)
    assert outputs["msp"]["anomaly_score"] == pytest.approx(-probabilities.max(axis=1), abs=1e-5)
    assert outputs["kl_rotation"]["rotation_loss"] == pytest.approx(rotation_loss, abs=1e-5)
    assert outputs["kl_rotation"]["anomaly_score"] == pytest.approx(rotation_loss - kl_uniform, abs=1e-5)
    transformation = outputs["transformation"]
    assert transformation["anomaly_score"] == pytest.approx(
        -transformation["view_probabilities"].sum(axis=(1, 2, 3, 4)), rel=1e-5
    )


@pytest.mark.parametrize("formula", FORMULAS)
def test_an_answer_does_not_depend_on_its_batch(tmp_path: Path, formula: str) -> None:
    graph = load_graph(write_graph(tmp_path, formula=formula))
    images = np.stack([solid(0), solid(128), solid(255)])
    together = graph.run(images)
    for index in range(3):
        alone = graph.run(images[index : index + 1])
        for name, values in alone.items():
            assert values[0] == pytest.approx(together[name][index], abs=1e-6)
    assert list(np.argsort(together["anomaly_score"])) == [0, 1, 2]


def test_runs_from_several_threads(tmp_path: Path) -> None:
    graph = load_graph(write_graph(tmp_path, formula="transformation"), threads=1)
    batches = [noise(count) for count in range(1, 9)]
    alone = [graph.run(batch)["anomaly_score"].tolist() for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda batch: graph.run(batch)["anomaly_score"].tolist(), batches)) == alone


def test_warm_accepts_a_good_graph(tmp_path: Path) -> None:
    load_graph(write_graph(tmp_path)).warm()


def with_output(model: onnx.ModelProto, name: str, value: NDArray[np.generic]) -> onnx.ModelProto:
    """Replace an output by a constant."""
    for node in model.graph.node:
        for index, output in enumerate(node.output):
            if output == name:
                node.output[index] = f"{name}_before"
    for node in model.graph.node:
        for index, source in enumerate(node.input):
            if source == name:
                node.input[index] = f"{name}_before"
    model.graph.node.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value)))
    kept = [output for output in model.graph.output if output.name != name]
    del model.graph.output[:]
    element = helper.np_dtype_to_tensor_dtype(value.dtype)
    model.graph.output.extend([*kept, helper.make_tensor_value_info(name, element, None)])
    return model


def test_outputs_of_another_shape_are_found_by_warming(tmp_path: Path) -> None:
    model = with_output(build_graph(), "probabilities", np.ones((2, 5), np.float32))
    graph: Graph = load_graph(saved(tmp_path, model))
    with pytest.raises(GraphError, match=r"model\.onnx: output 'probabilities' came out as \(2, 5\), not \(2, 3\)"):
        graph.warm()


def test_a_graph_that_loads_and_does_not_run_is_found_by_warming(tmp_path: Path) -> None:
    graph = load_graph(saved(tmp_path, without_free_batch(build_graph(formula="transformation"))))
    with pytest.raises(GraphError, match=r"model\.onnx: loads, but does not run: "):
        graph.warm()


def test_outputs_of_another_type_are_refused(tmp_path: Path) -> None:
    model = with_output(build_graph(), "kl_uniform", np.ones(2, np.float64))
    assert "'kl_uniform' is tensor(double)" in refusal(saved(tmp_path, model))


def test_a_missing_output_is_named(tmp_path: Path) -> None:
    model = build_graph()
    kept = [output for output in model.graph.output if output.name not in {"rotation_loss", "kl_uniform"}]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    assert refusal(saved(tmp_path, model)).startswith("lacks the outputs kl_uniform, rotation_loss")


def test_inputs_off_the_contract_are_refused(tmp_path: Path) -> None:
    assert "[2, 32, 32, 3]" in refusal(saved(tmp_path, build_graph(fixed_batch=2)))
    renamed = build_graph()
    renamed.graph.input[0].name = renamed.graph.node[0].input[0] = "pictures"
    assert "the graph takes 'pictures'" in refusal(saved(tmp_path, renamed))
    floats = build_graph()
    floats.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    assert "tensor(float)" in refusal(saved(tmp_path, floats))
    larger = build_graph(size=64)
    set_metadata(larger, build_graph(size=32).metadata_props[0].value)
    assert "uint8 [batch, 32, 32, 3]" in refusal(saved(tmp_path, larger))
    more = build_graph()
    more.graph.input.append(helper.make_tensor_value_info("unused", TensorProto.FLOAT, [1]))
    assert "'unused'" in refusal(saved(tmp_path, more))


@pytest.mark.parametrize("content", [b"", b"no protobuf at all", b"\0" * 1000])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert refusal(path).startswith("damaged, or no ONNX file: ")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files(tmp_path: Path, share: float) -> None:
    path = write_graph(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    refusal(path)


def test_absent_files(tmp_path: Path) -> None:
    assert refusal(tmp_path / "model.onnx").startswith("cannot be read: ")
    assert refusal(tmp_path).startswith("cannot be read: ")


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    model = build_graph()
    onnx.save_model(
        model, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    assert (tmp_path / "weights.bin").exists()
    refusal(tmp_path / "model.onnx")


def test_a_foreign_onnx_file_is_refused(tmp_path: Path) -> None:
    model = build_graph()
    del model.metadata_props[:]
    assert "not a graph exported by Quarterturn" in refusal(saved(tmp_path, model))


def test_an_unknown_schema_is_refused(tmp_path: Path) -> None:
    model = build_graph()
    manifest = json.loads(next(entry.value for entry in model.metadata_props if entry.key == METADATA_KEY))
    set_metadata(model, json.dumps(manifest | {"schema_version": 7}))
    assert refusal(saved(tmp_path, model)) == "manifest has schema version 7; this release reads version 1"
