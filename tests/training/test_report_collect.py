"""Which runs a report is of: of several evaluations of one training the fullest, whatever the folder is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.training.report_runs import mean_auroc, write_run
from training.report.collect import collect

AREAS = mean_auroc("msp", 0.7)
CURVES = {"curves": {"true_positive_rate": {}}}


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (AREAS, AREAS | CURVES, "b"),
        (AREAS | CURVES, AREAS, "a"),
        (mean_auroc("msp", 0.7, svhn=0.7) | CURVES, AREAS | CURVES, "b"),
        (AREAS, AREAS | {"settings_of_a_later_format": 1}, "b"),
    ],
)
def test_of_two_evaluations_of_a_training_the_fuller_counts(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], kept: str
) -> None:
    write_run(tmp_path / "a", "cifar10-baseline", **first)
    write_run(tmp_path / "b", "cifar10-baseline", **second)
    collection = collect(tmp_path)
    other = "a" if kept == "b" else "b"
    assert [run.name for system in collection.systems for run in system.runs] == [kept]
    assert collection.left_out == [(other, f"the same training as {kept}, whose evaluation holds more")]


def test_the_fullest_of_three_is_kept_wherever_it_stands(tmp_path: Path) -> None:
    for name, found in (("a", AREAS), ("b", AREAS | CURVES), ("c", AREAS)):
        write_run(tmp_path / name, "cifar10-baseline", **found)
    collection = collect(tmp_path)
    assert [run.name for run in collection.systems[0].runs] == ["b"]
    assert [name for name, _ in collection.left_out] == ["a", "c"]


def test_an_evaluation_by_other_settings_is_a_row_of_its_own_but_one_of_other_images_is_not(tmp_path: Path) -> None:
    """Of fewer images or sets it is no other measure, and tables say of which it is."""
    write_run(tmp_path / "a", "cifar10-baseline", **AREAS)
    fewer = ['evaluation.ood=["svhn"]', "evaluation.limit=300"]
    write_run(tmp_path / "b", "cifar10-baseline", fewer, seed=1, **AREAS)
    path = write_run(tmp_path / "c", "cifar10-baseline", seed=2, **AREAS) / "evaluation.json"
    settings = json.loads((tmp_path / "c" / "recipe.json").read_text())["evaluation"] | {"score": "kl"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": settings}))
    rows = {system.variant: system.seeds for system in collect(tmp_path).systems}
    assert rows == {(): [0, 1], ('evaluation.score="kl"',): [2]}
