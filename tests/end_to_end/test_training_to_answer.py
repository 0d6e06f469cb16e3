"""The whole path at smoke scale: train, evaluate, export, serve, ask. (test_readme.py has each step as a process.)"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from PIL import Image

from serving.graphs.graph import load_graph
from tests.end_to_end.ports import free_port
from tests.end_to_end.servers import running
from tests.training.command_line import quarterturn
from tests.training.patterns import write_class_folders
from tests.training.torchlib import build_torchlib_once

RUNS = {"classifier": ("own-classifier-32", []), "arrows": ("own-one-class-32", ["--set", "data.in_class=arrow"])}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/, and runs/ and models/ made from it by the commands."""
    build_torchlib_once()
    folder = tmp_path_factory.mktemp("path")
    data = str(folder / "data")
    write_class_folders(folder / "data" / "photos" / "train", per_class=30)
    write_class_folders(folder / "data" / "photos" / "test", per_class=8, first=1000)
    for name, (recipe, changes) in RUNS.items():
        run = str(folder / "runs" / name)
        network = str(folder / "networks" / f"{name}.onnx")
        for command in (
            ["train", recipe, "--data", data, "--out", run, "--scale", "smoke", *changes],
            ["evaluate", run, "--data", data],
            ["export", run, "--name", name, "--models", str(folder / "models"), "--with-network", network],
        ):
            done = quarterturn(*command)
            assert done.status == 0, f"{command}\n{done.out}\n{done.err}"
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_served_scores_are_those_of_the_graphs(folder: Path) -> None:
    port = free_port()
    path = folder / "data" / "photos" / "test" / "corner" / "1000.png"
    command = [sys.executable, "-m", "serving.cli", "serve", "--models", str(folder / "models"), "--port", str(port)]
    form = {"model": ["classifier", "arrows"], "views": "true"}
    with running(command, port), httpx.Client(base_url=f"http://localhost:{port}", timeout=60) as client:
        listed = client.get("/models").json()
        classified = client.post("/classify", files={"images": path.read_bytes()}).json()
        scored = client.post("/anomaly_score", files={"images": path.read_bytes()}, data=form).json()
    pixels = np.asarray(Image.open(path).convert("RGB"))[None]
    classifier, arrows = (load_graph(folder / "models" / name / "model.onnx") for name in RUNS)
    assert {model["name"] for model in listed["models"]} == RUNS.keys()
    assert listed["default"] == {"classifier": "classifier", "one_class": []}

    probabilities = classifier.run(pixels)["probabilities"][0]
    assert classified["model"]["digest"] == classifier.digest
    assert classified["results"][0]["index"] == int(probabilities.argmax())
    assert classified["results"][0]["probability"] == pytest.approx(float(probabilities.max()), rel=1e-4)
    [result] = scored["results"]
    expected = float(classifier.run(pixels)["anomaly_score"][0])
    assert result["kl_rotation"]["score"] == pytest.approx(expected, rel=1e-4, abs=1e-4)
    [one_class] = result["transformation"]
    assert one_class["normal"] == "arrow"
    assert one_class["score"] == pytest.approx(float(arrows.run(pixels)["anomaly_score"][0]), rel=1e-4)
    assert -108 <= one_class["score"] <= 0
    assert np.asarray(one_class["views"]["probabilities"]).shape == (4, 3, 3, 3)
    assert -np.sum(one_class["views"]["probabilities"]) == pytest.approx(one_class["score"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_files_say_what_was_done(folder: Path) -> None:
    evaluation = json.loads((folder / "runs" / "arrows" / "evaluation.json").read_text())
    assert evaluation["one_class"]["in_count"] > 0
    assert {"gaussian", "rademacher", "blobs"} <= evaluation["ood"].keys()
    assert "smoke" in (folder / "models" / "arrows" / "README.md").read_text()
    for name in RUNS:
        onnx.checker.check_model(onnx.load(folder / "networks" / f"{name}.onnx"))
        assert not [
            path for path in (folder / "models" / name).iterdir() if path.name not in ("model.onnx", "README.md")
        ]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_folder_is_scored_without_a_server(folder: Path) -> None:
    images = folder / "data" / "photos" / "test"
    done = quarterturn("score", str(images), "--models", str(folder / "models"), "--out", str(folder / "scores.csv"))
    assert done.status == 0, done.err
    with (folder / "scores.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == len(list(images.rglob("*.png")))
    assert {row["model"] for row in rows} == {"classifier"}
    assert all(0 < float(row["p_value"]) <= 1 and not row["error"] for row in rows)
