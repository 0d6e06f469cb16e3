"""Every job of every target at smoke scale, and the report of them all: nothing in it is left blank."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from serving.graph import load_graph
from tests.training.patterns import write_class_folders
from training.corruptions.generate import generate
from training.export import export_run
from training.report.report import write_report
from training.reproduce.jobs import Job, is_finished, plan
from training.reproduce.run_job import FINISHED, run_job
from training.reproduce.targets import TARGETS
from training.run_folder import RunFolder

JOBS = {job.name: job for target in TARGETS.values() for job in plan(target, "smoke", 1)}


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
def runs(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs, count = tmp_path_factory.mktemp("runs"), len(JOBS)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, spawn, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        ended = list(pool.map(run_job, JOBS.values(), [root] * count, [runs] * count, [None] * count))
    assert ended == [FINISHED] * count
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
    assert len(drawings) >= len(("strengths", "corruptions", "label errors", "curves")), drawings
    assert "<svg" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "job",
    [job for job in JOBS.values() if job.recipe in ("cifar10-trades-rotations", "cifar10-rotations-oe")],
    ids=lambda job: job.recipe,
)
def test_what_a_target_trained_is_a_graph_like_any_other(job: Job, runs: Path, tmp_path: Path) -> None:
    exported = export_run(RunFolder(runs / job.name), "graph", tmp_path)
    graph = load_graph(exported.path)
    graph.warm()
    settings = json.loads((runs / job.name / "recipe.json").read_text())
    assert graph.manifest.recipe.settings == settings
    assert graph.manifest.score == settings["evaluation"]["score"]
