"""The feed's benchmark runs and prints its table; the figures themselves need an idle machine."""

from __future__ import annotations

import re

import pytest

from benchmarks import feed
from training.recipe_files import load_recipe

TINY = ["network.depth=10", "network.width=1", "data.size=16", "data.shorter_side=16", "optimiser.batch=4"]


@pytest.mark.parametrize("name", ["cifar10-rotations", "cifar10-one-class-transformations"])
def test_both_contestants_have_a_speed(name: str) -> None:
    recipe = load_recipe(name, "cpu", [*TINY, "optimiser.epochs=1", "trainer.log_every=1"])
    assert feed.trainer_speed(recipe, steps=2) > 0
    assert feed.bare_speed(recipe, steps=2) > 0


def test_the_cases_are_recipes_that_load() -> None:
    for name, changes in feed.CASES:
        assert load_recipe(name, "cpu", changes).name == name


def test_the_table_has_a_row_a_case(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(feed, "CASES", [("cifar10-rotations", TINY)])
    monkeypatch.setattr("sys.argv", ["feed", "--steps", "2", "--rounds", "1"])
    feed.main()
    *_, row = capsys.readouterr().out.splitlines()
    cells = row.strip("| ").split(" | ")
    assert cells[:3] == ["cifar10-rotations", "WRN 10-1", "8"]
    trainer, bare, ratio = float(cells[3]), float(cells[4]), cells[5]
    shown = re.fullmatch(r"([\d.]+) \([\d.]+ to [\d.]+\)", ratio)
    assert shown
    assert float(shown.group(1)) == pytest.approx(trainer / bare, rel=0.05, abs=0.02)
