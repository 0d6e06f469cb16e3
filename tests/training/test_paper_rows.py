"""`quarterturn recipes --json` against the rows of the paper, written out here from its text."""

from __future__ import annotations

import json
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from training.commands import add_commands
from training.reproduce.targets import TARGETS, Target, recipes_of

# recipe | what the paper calls the row | metric, printed figure, where; '*': by arithmetic from printed figures
ROWS = """
cifar10-normal | Normal Training | accuracy 94.8, accuracy_pgd20 0.0, accuracy_pgd100 0.0 | table-1
cifar10-adversarial | Adversarial Training | accuracy 84.2, accuracy_pgd20 44.8, accuracy_pgd100 44.8 | table-1 figure-2
cifar10-adversarial-rotations | + Auxiliary Rotations (Ours) \
| accuracy 83.5, accuracy_pgd20 50.4, accuracy_pgd100 50.4 | table-1 figure-2
cifar10-trades | TRADES | accuracy_pgd20 51.37* | table-1
cifar10-trades-rotations | TRADES + Auxiliary Rotations | accuracy_pgd20 52.59* | table-1
cifar10-robustness-normal | Normal Training | accuracy 94.7, accuracy_corruptions_mean 72.3 | figure-3
cifar10-robustness-rotations | Auxiliary Rotations | accuracy 95.5, accuracy_corruptions_mean 76.9 | figure-3
cifar10-labels-none | CIFAR-10, No Correction, Normal Training | error_mean 27.4 | table-2 figure-4
cifar10-labels-none-rotations | CIFAR-10, No Correction, Rotations | error_mean 21.8 | table-2 figure-4
cifar10-labels-glc5 | CIFAR-10, GLC (5% Trusted), Normal Training | error_mean 14.6 | table-2 figure-4
cifar10-labels-glc5-rotations | CIFAR-10, GLC (5% Trusted), Rotations | error_mean 10.5 | table-2 figure-4
cifar10-labels-glc10 | CIFAR-10, GLC (10% Trusted), Normal Training | error_mean 11.6 | table-2 figure-4
cifar10-labels-glc10-rotations | CIFAR-10, GLC (10% Trusted), Rotations | error_mean 9.6 | table-2 figure-4
cifar100-labels-none | CIFAR-100, No Correction, Normal Training | error_mean 52.6 | table-2 figure-4
cifar100-labels-none-rotations | CIFAR-100, No Correction, Rotations | error_mean 47.4 | table-2 figure-4
cifar100-labels-glc5 | CIFAR-100, GLC (5% Trusted), Normal Training | error_mean 48.3 | table-2 figure-4
cifar100-labels-glc5-rotations | CIFAR-100, GLC (5% Trusted), Rotations | error_mean 43.2 | table-2 figure-4
cifar100-labels-glc10 | CIFAR-100, GLC (10% Trusted), Normal Training | error_mean 39.1 | table-2 figure-4
cifar100-labels-glc10-rotations | CIFAR-100, GLC (10% Trusted), Rotations | error_mean 36.8 | table-2 figure-4
cifar10-baseline | Baseline | auroc_mean 91.4 | figure-5
cifar10-rotations | Rotations (Ours) | auroc_mean 96.2 | figure-5
cifar10-rotations-oe | Rotations + Outlier Exposure | | figure-5
"""

# Rows of our own beside the paper's, which hence have no printed figure.
OURS = {
    "cifar10-adversarial-rotations-classifier": ["table-1"],
    "cifar10-adversarial-rotations-joint": ["table-1"],
    **{
        f"cifar{k}-labels-forward{rotations}": ["table-2", "figure-4"]
        for k in (10, 100)
        for rotations in ("", "-rotations")
    },
}
# Section 4.2, whose tables come later, and a user's own images.
OTHERS = ("cifar10-one-class-", "cifar10-transformations", "own-")


@pytest.fixture(scope="module")
def listed() -> dict[str, dict[str, Any]]:
    app = typer.Typer()
    add_commands(app)
    recipes: list[dict[str, Any]] = json.loads(CliRunner().invoke(app, ["recipes", "--json"]).output)
    return {recipe["name"]: recipe for recipe in recipes}


def paper_rows() -> dict[str, tuple[str, dict[str, tuple[float, bool]], list[str]]]:
    rows = {}
    for line in ROWS.strip().splitlines():
        name, row, figures, targets = (part.strip() for part in line.split("|"))
        printed = {}
        for figure in filter(None, figures.split(", ")):
            metric, value = figure.split()
            printed[metric] = (float(value.rstrip("*")), value.endswith("*"))
        rows[name] = (row, printed, targets.split())
    return rows


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_rows_stand_in_the_papers_order(target: Target) -> None:
    """Then come our own, by name."""
    found = [recipe.name for recipe in recipes_of(target, "paper")]
    printed = [name for name, (_, _, targets) in paper_rows().items() if target.name in targets]
    assert found[: len(printed)] == printed
    assert found[len(printed) :] == [name for name in OURS if name in found]


@pytest.mark.parametrize("name", paper_rows())
def test_a_row_of_the_paper_is_a_recipe(name: str, listed: dict[str, dict[str, Any]]) -> None:
    row, printed, targets = paper_rows()[name]
    recipe = listed[name]
    assert (recipe["row"], recipe["targets"]) == (row, targets)
    assert {figure["metric"]: (figure["value"], figure["derived"]) for figure in recipe["published"]} == printed


def test_there_are_no_other_rows(listed: dict[str, dict[str, Any]]) -> None:
    rest = {name: recipe for name, recipe in listed.items() if name not in paper_rows()}
    assert {name: recipe["targets"] for name, recipe in rest.items() if not name.startswith(OTHERS)} == OURS
    assert [name for name in OURS if listed[name]["published"]] == []


def test_the_derived_figures_follow_from_the_text() -> None:
    """'a 1.22% boost over standard TRADES and a 7.79% boost over standard PGD training in robust accuracy'."""
    rows = {name: printed for name, (_, printed, _) in paper_rows().items()}
    ours = rows["cifar10-trades-rotations"]["accuracy_pgd20"][0]
    assert ours == pytest.approx(rows["cifar10-adversarial"]["accuracy_pgd20"][0] + 7.79)
    assert rows["cifar10-trades"]["accuracy_pgd20"][0] == pytest.approx(ours - 1.22)
