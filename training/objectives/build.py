"""From a recipe's objective settings to the objective: the one list of objectives there are."""

from __future__ import annotations

from training.data.image_set import DataError
from training.objectives.classification import Classification
from training.objectives.objective import Objective
from training.objectives.transformations import TransformationPrediction
from training.recipe import ClassificationSettings, Recipe


def build_objective(recipe: Recipe, classes: int) -> Objective:
    """Return the recipe's objective for data of ``classes`` classes. Raises DataError if it needs more."""
    settings, channels_last = recipe.objective, recipe.trainer.channels_last
    if isinstance(settings, ClassificationSettings):
        if classes < 2:
            raise DataError(
                f"a classifier needs at least two classes and {recipe.data.name!r} has {classes}; "
                "for a single class train a one-class recipe"
            )
        return Classification(settings, classes, channels_last)
    return TransformationPrediction(settings, recipe.data.size, channels_last)
