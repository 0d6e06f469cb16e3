"""From a recipe's table of outliers to the objective that is trained."""

from __future__ import annotations

import torch

from training.data.image_set import ImageSet
from training.exposure.outliers import OutlierFeed
from training.objectives.objective import Objective
from training.objectives.outlier_exposure import OutlierExposure
from training.recipe import Recipe
from training.recipe_tables.outliers import OutlierSettings


def expose(
    objective: Objective, recipe: Recipe, settings: OutlierSettings, outliers: ImageSet, device: torch.device
) -> Objective:
    """Return ``objective`` with Outlier Exposure to ``outliers``, which come to the device."""
    feed = OutlierFeed(outliers, recipe.augmentation, settings.per_image, device)
    return OutlierExposure(objective, feed, settings.weight, settings.per_image, recipe.trainer.channels_last)
