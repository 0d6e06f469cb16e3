"""From a recipe's objective settings to the objective: the one list of objectives there are."""

from __future__ import annotations

from torch.nn import functional

from training.data.image_set import DataError
from training.objectives.adversarial import AdversarialTraining
from training.objectives.classification import Classification
from training.objectives.objective import LabelLoss, Objective
from training.objectives.rotations import RotationPrediction
from training.objectives.trades import Trades
from training.objectives.transformations import TransformationPrediction
from training.precision import resolve_precision
from training.recipe import ClassificationSettings, Recipe, RotationSettings, TransformationSettings
from training.recipe_tables.attacks import AdversarialSettings


def build_objective(recipe: Recipe, classes: int, label_loss: LabelLoss = functional.cross_entropy) -> Objective:
    """Return the recipe's objective for data of ``classes`` classes. Raises DataError if it needs more.

    ``label_loss`` is what objective 'classification' makes of its labels.
    """
    settings, channels_last = recipe.objective, recipe.trainer.channels_last
    if isinstance(settings, RotationSettings):
        return RotationPrediction(channels_last)
    if isinstance(settings, TransformationSettings):
        return TransformationPrediction(settings, recipe.data.size, channels_last)
    if classes < 2:
        raise DataError(
            f"a classifier needs at least two classes and {recipe.data.name!r} has {classes}; "
            "for a single class train a one-class recipe"
        )
    if isinstance(settings, ClassificationSettings):
        return Classification(settings, classes, channels_last, label_loss)
    precision = resolve_precision(recipe.trainer.precision)
    if isinstance(settings, AdversarialSettings):
        return AdversarialTraining(settings, classes, precision, channels_last)
    return Trades(settings, classes, precision, channels_last)
