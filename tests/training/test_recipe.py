"""What a recipe refuses, and by what name."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from training.recipe import Recipe
from training.recipe_files import load_recipe

CLASSIFIER, ONE_CLASS = "own-classifier-32", "own-one-class-32"


def changed(recipe: str, /, **tables: Any) -> dict[str, Any]:
    """The settings of a recipe with some keys of some tables changed."""
    settings = load_recipe(recipe).settings()
    for table, change in tables.items():
        settings[table] = {**settings[table], **change} if isinstance(change, dict) else change
    return settings


def test_settings_are_the_recipe_again() -> None:
    recipe = load_recipe(CLASSIFIER, "cpu")
    assert Recipe.model_validate(recipe.settings()) == recipe
    assert recipe.settings()["scale"] == "cpu"


@pytest.mark.parametrize(
    ("name", "tables", "said"),
    [
        (CLASSIFIER, {"network": {"depth": 12}}, "6n \\+ 4"),
        (CLASSIFIER, {"network": {"dropout": 1.0}}, "less than 1"),
        (CLASSIFIER, {"optimiser": {"lr": float("nan")}}, "greater than 0|finite"),
        (CLASSIFIER, {"optimiser": {"lr": float("inf")}}, "finite"),
        (CLASSIFIER, {"optimiser": {"epochs": 0}}, "greater than or equal to 1"),
        (CLASSIFIER, {"data": {"shorter_side": 31}}, "shorter_side 31 is smaller than size 32"),
        (CLASSIFIER, {"data": {"in_class": "horse"}}, "one-class objectives"),
        (CLASSIFIER, {"evaluation": {"score": "transformation"}}, "scored by 'kl_rotation', 'kl' or 'msp'"),
        (CLASSIFIER, {"objective": {"rotation_weight": 0.0}}, "needs objective.rotation_weight above 0"),
        (CLASSIFIER, {"calibration": {"share": 1.0}}, "less than 1"),
        (CLASSIFIER, {"name": "No Name"}, "pattern"),
        (ONE_CLASS, {"evaluation": {"score": "msp"}}, "evaluation.score = 'transformation'"),
        (ONE_CLASS, {"objective": {"translations_per_image": 10}}, "less than or equal to 9"),
        (ONE_CLASS, {"objective": {"order": "rotate"}}, "translate_rotate"),
    ],
)
def test_settings_that_do_not_fit_are_refused(name: str, tables: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Recipe.model_validate(changed(name, **tables))


@pytest.mark.parametrize("table", ["network", "data", "objective", "optimiser", "calibration", "evaluation", "trainer"])
def test_no_table_takes_an_unknown_key(table: str) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Recipe.model_validate(changed(CLASSIFIER, **{table: {"no_such_key": 1}}))


def test_a_setting_has_no_default_outside_its_file() -> None:
    settings = load_recipe(CLASSIFIER).settings()
    for table in ("network", "augmentation", "objective", "optimiser", "calibration", "trainer"):
        for key in settings[table]:
            lacking = {name: value for name, value in settings[table].items() if name != key}
            with pytest.raises(ValidationError):
                Recipe.model_validate({**settings, table: lacking})


def test_a_class_called_by_a_number_is_a_name() -> None:
    recipe = Recipe.model_validate(changed(ONE_CLASS, data={"in_class": 3}))
    assert recipe.data.in_class == "3"


def test_a_recipe_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_recipe(CLASSIFIER).optimiser.lr = 1.0
