"""Every job of every target at smoke scale, the report of them all, and a network of each family served."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from serving.graphs.graph import load_graph
from tests.end_to_end.ports import free_port
from tests.end_to_end.servers import running
from tests.training.patterns import write_class_folders
from tests.training.torchlib import build_torchlib_once
from training.corruptions.generate import generate
from training.export import export_run
from training.recipe_files import load_recipe
from training.report.report import write_report
from training.reproduce.jobs import is_finished, plan
from training.reproduce.run_job import FINISHED, run_job
from training.reproduce.targets import TARGETS
from training.run_folder import RunFolder
from training.training_run import train_recipe

JOBS = {job.name: job for target in TARGETS.values() for job in plan(target, "smoke", 1)}


def prepare_process() -> None:
    torch.set_num_threads(1)
    build_torchlib_once()


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """Two, which take one piece of work after the other."""
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn"), initializer=prepare_process) as pool:
        yield pool


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with all that the targets train on, and two sets to tell from it."""
    root = tmp_path_factory.mktemp("data")
    for name in ("cifar10", "cifar100", "tiny-imagenet"):
        write_class_folders(root / name / "train", per_class=20)
        write_class_folders(root / name / "test", per_class=4, first=1000)
    write_class_folders(root / "textures" / "test", per_class=4, first=2000)
    for left_out in JOBS["cifar10-rotations-oe_smoke_seed-0"].resolved().outliers.left_out:  # classes like CIFAR-10's
        (root / "tiny-imagenet" / "train" / left_out).mkdir()
        shutil.copy(next((root / "textures" / "test" / "ramp").iterdir()), root / "tiny-imagenet" / "train" / left_out)
    generate(root)
    return root


@pytest.fixture(scope="module")
def runs(processes: ProcessPoolExecutor, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs, count = tmp_path_factory.mktemp("runs"), len(JOBS)
    ended = processes.map(run_job, JOBS.values(), [root] * count, [runs] * count, [None] * count)
    assert list(ended) == [FINISHED] * count
    assert all(is_finished(job, RunFolder(runs / job.name)) for job in JOBS.values())
    return runs


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_report_has_every_row_and_figure_of_every_target(runs: Path, tmp_path: Path) -> None:
    write_report(runs, tmp_path, "smoke")
    text = (tmp_path / "report.md").read_text()
    for target in TARGETS.values():
        assert target.title in text
    assert "not run" not in text
    drawings = {path.stem for path in tmp_path.glob("*.svg")}
    kinds = ("masking", "strength", "bars", "curves", "roc", "scores")
    assert {name.split("-")[-2] for name in drawings} == set(kinds)
    assert "<svg" in (tmp_path / "report.html").read_text()


# A network of each family: how it was trained and, as the paper's tables do not have it yet, a one-class model.
FAMILIES = {
    "baseline": "cifar10-baseline_smoke_seed-0",
    "rotations": "cifar10-rotations_smoke_seed-0",
    "adversarial": "cifar10-adversarial-rotations_smoke_seed-0",
    "trades": "cifar10-trades_smoke_seed-0",
    "labels": "cifar10-labels-glc10-rotations_strength-0.8_smoke_seed-0",
    "exposed": "cifar10-rotations-oe_smoke_seed-0",
}
ONE_CLASS = "arrows"


def export_family(run: Path, name: str, models: Path) -> None:
    export_run(RunFolder(run), name, models)


@pytest.fixture(scope="module")
def models(processes: ProcessPoolExecutor, runs: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a graph of each family, and the one-class model's run beside the targets'."""
    models = tmp_path_factory.mktemp("models")
    recipe = load_recipe("cifar10-one-class-transformations", "smoke", ["data.in_class=arrow"])
    train_recipe(recipe, root, RunFolder(runs / ONE_CLASS))
    found = {**FAMILIES, ONE_CLASS: ONE_CLASS}
    list(processes.map(export_family, [runs / run for run in found.values()], found, [models] * len(found)))
    return models


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_network_of_each_family_is_served_like_any_other(models: Path, runs: Path, root: Path) -> None:
    """Scores over HTTP are those of the graphs, each by its own formula; the manifests tell how each was trained."""
    path = root / "cifar10" / "test" / "corner" / "1000.png"
    pixels = np.asarray(Image.open(path).convert("RGB"))[None]
    graphs = {name: load_graph(models / name / "model.onnx") for name in (*FAMILIES, ONE_CLASS)}
    for name, run in FAMILIES.items():
        settings = json.loads((runs / run / "recipe.json").read_text())
        assert graphs[name].manifest.recipe.settings == settings
        assert graphs[name].manifest.score == settings["evaluation"]["score"]
    port, image = free_port(), {"images": path.read_bytes()}
    command = [sys.executable, "-m", "serving.cli", "serve", "--models", str(models), "--port", str(port)]
    command += ["--default-classifier", "rotations"]
    with running(command, port), httpx.Client(base_url=f"http://localhost:{port}", timeout=60) as client:
        listed = {model["name"] for model in client.get("/models").json()["models"]}
        labels = {name: client.post("/classify", files=image, data={"model": name}) for name in FAMILIES}
        scores = {name: client.post("/anomaly_score", files=image, data={"model": name}) for name in graphs}
    assert listed == set(graphs)
    formulas = set()
    for name in FAMILIES:
        outputs = graphs[name].run(pixels)
        [result] = labels[name].json()["results"]
        assert labels[name].json()["model"]["digest"] == graphs[name].digest
        assert result["probability"] == pytest.approx(float(outputs["probabilities"][0].max()), rel=1e-4)
        [result] = scores[name].json()["results"]
        found = result["kl_rotation"]
        assert (found["model"], result["transformation"]) == (name, [])
        assert found["score"] == pytest.approx(float(outputs["anomaly_score"][0]), rel=1e-4, abs=1e-4)
        assert 0 < found["p_value"] <= 1
        formulas.add(found["formula"])
    assert formulas == {"msp", "kl_rotation"}
    [result] = scores[ONE_CLASS].json()["results"]
    [found] = result["transformation"]
    assert (found["model"], found["normal"]) == (ONE_CLASS, "arrow")
    assert found["score"] == pytest.approx(float(graphs[ONE_CLASS].run(pixels)["anomaly_score"][0]), rel=1e-4)
