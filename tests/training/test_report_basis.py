"""Rows, and seeds of a row, are compared on the same sets, corruptions and images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.training.report_runs import mean_auroc, row, write_run
from training.published import PAPER_SETS, beside_published
from training.recipe_files import load_recipe
from training.report.basis import basis_of
from training.report.collect import collect
from training.report.tables import figures_table, ood_table
from training.reproduce.targets import TARGETS

FIGURE_5, TABLE_1, FIGURE_3 = TARGETS["figure-5"], TARGETS["table-1"], TARGETS["figure-3"]


def test_the_papers_sets_are_those_its_figures_are_printed_for() -> None:
    for name in ("cifar10-baseline", "cifar10-rotations"):
        (figure,) = load_recipe(name).published
        assert figure.where.removeprefix("Figure 5: mean over ").lower().replace("-", "").split(", ") == list(
            PAPER_SETS
        )


def test_the_printed_mean_stands_beside_a_mean_over_the_papers_sets_alone(tmp_path: Path) -> None:
    sets = {"gaussian": 0.9, "svhn": 0.7, "scenes": 0.2}
    write_run(tmp_path / "a", "cifar10-baseline", **mean_auroc("msp", 0.6, **sets))
    table = figures_table(collect(tmp_path), FIGURE_5, "cpu")
    ours = row(table, "Baseline", "AUROC, mean over 2 of the paper's 8 sets")
    assert ours[2:5] == ["91.4", "80.0", "-11.4"]
    assert row(table, "Baseline", "AUROC, mean over 1 other sets: scenes")[2:5] == ["-", "20.0", "-"]
    assert "without rademacher, blobs, textures, places365, lsun, cifar100" in table.note


def test_all_of_the_papers_sets_need_no_word(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "cifar10-baseline", **mean_auroc("msp", 0.8))
    table = figures_table(collect(tmp_path), FIGURE_5, "cpu")
    assert row(table, "Baseline")[1] == "AUROC, mean over the paper's 8 sets"
    assert "without" not in table.note


def test_rows_are_compared_on_sets_that_every_row_and_seed_has_and_none_was_trained_on(tmp_path: Path) -> None:
    tiny = "tiny-imagenet"
    write_run(tmp_path / "a", "cifar10-baseline", **mean_auroc("msp", 0, svhn=0.8, lsun=0.1, scenes=0.5, **{tiny: 0.6}))
    write_run(tmp_path / "b", "cifar10-baseline", seed=1, **mean_auroc("msp", 0, svhn=0.9, scenes=0.7, **{tiny: 0.6}))
    exposed = mean_auroc("kl_rotation", 0, svhn=0.9, lsun=0.3, scenes=0.8, **{tiny: 0.99}) | {"exposed": [tiny]}
    write_run(tmp_path / "c", "cifar10-rotations-oe", **exposed)
    collection = collect(tmp_path)
    basis = basis_of(collection.systems)
    assert (basis.sets, basis.others) == (("svhn",), ("scenes",))
    table = ood_table(collection, FIGURE_5, "cpu")
    assert table is not None
    assert table.header == ["set", "Baseline, 2 seeds", "Rotations + Outlier Exposure, 1 seed"]
    assert row(table, "svhn") == ["svhn", "85.0 ± 5.0", "90.0"]
    assert row(table, "lsun") == ["lsun", "10.0 (1 of 2 seeds)", "30.0"]
    assert row(table, tiny) == [tiny, "60.0 ± 0.0", "99.0 (trained on)"]
    assert row(table, "mean over 1 of the paper's 8 sets")[1:] == ["85.0 ± 5.0", "90.0"]
    assert row(table, "mean over 1 other sets: scenes")[1:] == ["60.0 ± 10.0", "80.0"]
    figures = figures_table(collection, FIGURE_5, "cpu")
    assert row(figures, "Rotations + Outlier", "AUROC, mean over 1 of")[3] == "90.0"


def corruptions(missing: tuple[str, ...] = (), **accuracies: float) -> dict[str, Any]:
    accuracy = {name: {"severities": [value] * 5, "mean": value} for name, value in accuracies.items()}
    mean = sum(accuracies.values()) / len(accuracies)
    return {"origin": "generated", "count": 70, "accuracy": accuracy, "accuracy_mean": mean, "missing": list(missing)}


def test_seeds_with_other_corruptions_are_averaged_over_those_all_have(tmp_path: Path) -> None:
    """Means over all that each has would be 0.6 and 0.5."""
    recipe = "cifar10-robustness-normal"
    write_run(tmp_path / "a", recipe, corruptions=corruptions(fog=0.5, snow=0.7, frost=0.6))
    write_run(tmp_path / "b", recipe, seed=1, corruptions=corruptions(("frost",), fog=0.3, snow=0.7))
    table = figures_table(collect(tmp_path), FIGURE_3, "cpu")
    cells = row(table, "Normal Training", "accuracy, mean over")
    assert cells[1:4] == ["accuracy, mean over 2 of 3 corruptions", "72.3", "55.0 ± 5.0"]
    assert cells[5] == "70 a severity"
    assert "over all 3 corruptions, the measured one over those that every run has: without frost." in table.note


def attack(accuracy: float, count: int, steps: int, **changes: float) -> dict[str, Any]:
    settings = {"epsilon_255": 4.0, "step_255": 1.0 if steps == 20 else 0.15, "clean_accuracy": count / 1000}
    return {"accuracy": accuracy, "count": count, "steps": steps, **settings, **changes}


def test_twenty_and_a_hundred_steps_are_shown_on_the_same_images(tmp_path: Path) -> None:
    """100 steps left more right than 20 did, but of other images; on the same ones they left fewer."""
    sweep = [attack(0.1, 500, 20, epsilon_255=6.0, step_255=1.5), attack(0.33, 500, 20)]
    found = {"pgd20": attack(0.29, 800, 20), "pgd100": attack(0.31, 500, 100), "sweep": sweep}
    write_run(tmp_path / "a", "cifar10-adversarial", adversarial=found)
    table = figures_table(collect(tmp_path), TABLE_1, "cpu")
    shown = {cells[1]: (cells[3], cells[5]) for cells in table.rows if cells[0].startswith("Adversarial Training")}
    assert shown == {
        "accuracy": ("80.0", "900"),
        "accuracy, 20-step PGD, more images": ("29.0", "800; clean 80.0"),
        "accuracy, 20-step PGD": ("33.0", "500; clean 50.0"),
        "accuracy, 100-step PGD": ("31.0", "500; clean 50.0"),
    }
    assert row(table, "Adversarial Training", "accuracy, 20-step PGD, more")[2] == "44.8"
    assert "compared on the same images" in table.note


@pytest.mark.parametrize("sweep", [[], [attack(0.33, 500, 20, step_255=2.0)], [attack(0.33, 400, 20)]])
def test_another_attack_does_not_stand_in_for_twenty_steps(tmp_path: Path, sweep: list[dict[str, Any]]) -> None:
    """Then each attack is as it was measured, with its number of images and their clean accuracy."""
    found = {"pgd20": attack(0.29, 800, 20), "pgd100": attack(0.31, 500, 100), "sweep": sweep}
    write_run(tmp_path / "a", "cifar10-adversarial", adversarial=found)
    table = figures_table(collect(tmp_path), TABLE_1, "cpu")
    shown = [(*cells[3:4], cells[5]) for cells in table.rows if cells[0].startswith("Adversarial Training")]
    assert shown == [("80.0", "900"), ("29.0", "800; clean 80.0"), ("31.0", "500; clean 50.0")]
    assert "the same images" not in table.note


def test_an_evaluation_says_what_its_means_are_over() -> None:
    recipe = load_recipe("cifar10-rotations", "cpu")
    evaluation: dict[str, Any] = {"accuracy": 0.8, "score": "kl_rotation", "one_class": None, "exposed": ["lsun"]}
    evaluation |= mean_auroc("kl_rotation", 0.5, gaussian=0.9, svhn=0.7, lsun=0.1, scenes=0.1)
    (figure,) = beside_published(recipe, evaluation)
    assert figure["measured_percent"] == 80.0
    assert figure["measured_over"] == "2 of the 8 sets, without rademacher, blobs, textures, places365, lsun, cifar100"
    (whole,) = beside_published(recipe, evaluation | mean_auroc("kl_rotation", 0.9) | {"exposed": []})
    assert "measured_over" not in whole
    normal = load_recipe("cifar10-robustness-normal", "cpu")
    corrupted = evaluation | {"corruptions": corruptions(("frost",), fog=0.3, snow=0.7)}
    figures = {figure["metric"]: figure for figure in beside_published(normal, corrupted)}
    assert figures["accuracy_corruptions_mean"]["measured_over"] == "2 of the 3 corruptions, without frost"
    assert "measured_over" not in figures["accuracy"]
