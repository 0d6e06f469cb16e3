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
        (
            AREAS | {"adversarial": {"auto_attack": {"missing": "not installed"}}},
            AREAS | {"adversarial": {"auto_attack": {"accuracy": 0.3}}},
            "b",
        ),
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


def test_how_many_images_auto_attack_has_makes_no_row_of_its_own(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "cifar10-adversarial")
    write_run(tmp_path / "b", "cifar10-adversarial", ["evaluation.adversarial.auto_attack_images=200"], seed=1)
    assert {system.variant: system.seeds for system in collect(tmp_path).systems} == {(): [0, 1]}


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("evaluation.json", "{}", "evaluation.json is damaged: no seed, score, ood, missing, in_distribution.count"),
        ("evaluation.json", "[]", "evaluation.json is damaged"),
        ("training.json", "null", "training.json is damaged"),
        ("training.json", '{"finished": true, "step": 70}', "training.json is damaged: no seconds, device, data.name"),
        ("recipe.json", '"text"', "recipe.json is damaged"),
    ],
)
def test_a_damaged_run_is_left_out_with_its_reason_and_the_others_stay(
    tmp_path: Path, file: str, content: str, why: str
) -> None:
    write_run(tmp_path / "a", "cifar10-baseline", **AREAS)
    (write_run(tmp_path / "b", "cifar10-baseline", seed=1, **AREAS) / file).write_text(content)
    collection = collect(tmp_path)
    assert [run.name for system in collection.systems for run in system.runs] == ["a"]
    ((name, reason),) = collection.left_out
    assert name == "b"
    assert reason.startswith(why)


@pytest.mark.parametrize(
    ("environment", "left_out"),
    [
        ('{"seed": 1}', []),
        ("{}", []),
        ("[", []),
        ('{"seed": 7}', [("a", "the evaluation is of an earlier training, with seed 1 and not 7")]),
    ],
)
def test_an_evaluation_of_another_seed_than_the_runs_is_left_out(
    tmp_path: Path, environment: str, left_out: list[tuple[str, str]]
) -> None:
    run = write_run(tmp_path / "a", "cifar10-baseline", seed=1, **AREAS)
    assert collect(tmp_path).left_out == [], "without that file, as results are kept"
    (run / "environment.json").write_text(environment)
    assert collect(tmp_path).left_out == left_out


def test_a_file_that_cannot_be_read_is_left_out_too(tmp_path: Path) -> None:
    (write_run(tmp_path / "a", "cifar10-baseline", **AREAS) / "evaluation.json").unlink()
    (tmp_path / "a" / "evaluation.json").mkdir()
    assert collect(tmp_path).left_out == [("a", "evaluation.json cannot be read: Is a directory")]


def test_kept_results_are_of_the_recipes_that_ship() -> None:
    """A recipe that changes makes 'not run' of what was run: train it anew, or say in docs/results.md what it was."""
    kept = Path(__file__).parents[2] / "docs" / "results"
    collection = collect(kept)
    assert collection.systems
    assert [(system.recipe.name, system.variant) for system in collection.systems if system.variant] == []
    assert [reason for _, reason in collection.left_out if not reason.startswith("the same training as")] == []
