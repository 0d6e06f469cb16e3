"""Every shipped graph against its golden files and against the paper's formulas, recomputed in plain NumPy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

from serving.graphs.graph import Graph, load_graph
from tests.reference_scores import recompute_scores

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden"
MODELS = sorted(path.parent.name for path in (ROOT / "models").glob("*/model.onnx"))
LARGEST_FILE = 8_000_000
TOLERANCE = 1e-4


def golden_expectations(name: str) -> dict[str, Any]:
    path = GOLDEN / name / "expected.json"
    assert path.is_file(), f"models/{name} ships without golden files: write them with python -m training.golden"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def golden_images(name: str) -> NDArray[np.uint8]:
    names = golden_expectations(name)["images"]
    return np.stack([np.asarray(Image.open(GOLDEN / name / image).convert("RGB")) for image in names])


def close(given: NDArray[Any], expected: NDArray[Any]) -> bool:
    bound = TOLERANCE * np.maximum(1, np.abs(expected))
    return given.shape == expected.shape and bool(np.all(np.abs(given - expected) <= bound))


@pytest.fixture(scope="module", params=MODELS)
def graph(request: pytest.FixtureRequest) -> Graph:
    return load_graph(ROOT / "models" / request.param / "model.onnx")


def test_golden_files_are_of_this_graph(graph: Graph) -> None:
    assert golden_expectations(graph.name)["digest"] == graph.digest


def test_outputs_are_the_golden_ones(graph: Graph) -> None:
    expected = golden_expectations(graph.name)["outputs"]
    given = graph.run(golden_images(graph.name))
    assert set(given) == set(expected)
    for output, values in given.items():
        assert close(values, np.asarray(expected[output])), output


def test_scores_follow_from_the_bare_network_by_the_papers_formulas(graph: Graph) -> None:
    network = onnxruntime.InferenceSession(GOLDEN / graph.name / "network.onnx", providers=["CPUExecutionProvider"])
    images = golden_images(graph.name)
    recomputed = recompute_scores(graph.manifest, network, images)
    given = graph.run(images)
    assert set(given) == set(recomputed)
    for output, values in given.items():
        assert close(values, recomputed[output]), output


def test_files_are_small(graph: Graph) -> None:
    files = [graph.path, *(GOLDEN / graph.name).iterdir()]
    assert {path.name: path.stat().st_size for path in files if path.stat().st_size > LARGEST_FILE} == {}


def test_golden_files_belong_to_shipped_models() -> None:
    kept = {path.parent.name for path in GOLDEN.glob("*/expected.json")}
    assert kept == set(MODELS)
