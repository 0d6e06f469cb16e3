"""Conditions are those of all runs of a row, and what all rows share stands once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.training.report_runs import write_run
from training.report.collect import collect
from training.report.conditions import conditions_tables
from training.reproduce.targets import TARGETS

FIGURE_5 = TARGETS["figure-5"]


def cells(folder: Path) -> dict[str, str]:
    """Return the conditions of the one row that was run."""
    (table,) = conditions_tables(collect(folder), FIGURE_5, "cpu")
    (found,) = table.rows
    return dict(zip(table.header, found, strict=True))


def change(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | changes))


def test_missing_sets_are_those_of_every_run_and_in_how_many(tmp_path: Path) -> None:
    """The run trained longest lacks none of them."""
    write_run(tmp_path / "a", "cifar10-baseline", missing=["lsun", "svhn"])
    write_run(tmp_path / "b", "cifar10-baseline", seed=1, missing=["svhn"])
    folder = write_run(tmp_path / "c", "cifar10-baseline", seed=2, missing=["svhn"])
    change(folder / "training.json", seconds=7200.0)
    found = cells(tmp_path)
    assert found["missing sets"] == "lsun (1 of 3 runs), svhn"
    assert found["trainings"] == "3 x up to 2 h 00 min"


def test_all_versions_that_occur_are_named(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "cifar10-baseline")
    folder = write_run(tmp_path / "b", "cifar10-baseline", seed=1)
    evaluation = json.loads((folder / "evaluation.json").read_text())
    evaluation["conditions"]["libraries"] = {"torch": "2.14.1", "onnxruntime-gpu": "1.31.1"}
    change(folder / "evaluation.json", **evaluation)
    assert cells(tmp_path)["libraries at evaluation"] == "torch 2.14.1, 2.15.0; ONNX Runtime 1.31.1; NumPy 2.4.6"


def test_the_precision_is_the_recorded_one_or_what_auto_was_on_the_device(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", "cifar10-baseline")
    assert cells(tmp_path)["precision"] == "32-true"
    change(folder / "training.json", device="NVIDIA H100")
    assert cells(tmp_path)["precision"] == "bf16-mixed"
    change(folder / "training.json", precision="16-mixed")
    assert cells(tmp_path)["precision"] == "16-mixed"


def test_images_of_all_runs_are_told(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "cifar10-baseline")
    write_run(tmp_path / "b", "cifar10-baseline", seed=1, in_distribution={"count": 1000})
    assert cells(tmp_path)["test images"] == "900, or 1000"


def test_what_all_rows_share_stands_once(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "cifar10-baseline", missing=["svhn"])
    folder = write_run(tmp_path / "b", "cifar10-rotations", missing=["svhn"])
    change(folder / "training.json", seconds=60.0)
    shared, own = conditions_tables(collect(tmp_path), FIGURE_5, "cpu")
    assert ["missing sets", "svhn"] in shared.rows
    assert own.header == ["row", "trainings"]
    assert [line[1] for line in own.rows] == ["1 x up to 10 min", "1 x up to 60 s"]
    assert conditions_tables(collect(tmp_path), FIGURE_5, "paper") == []
