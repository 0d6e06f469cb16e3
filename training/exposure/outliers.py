"""Outlier images for training: read without the classes that are left out, and drawn anew for each step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from serving.images.fitting import Fitting
from training.data.augmentation import augment
from training.data.draws import Draws
from training.data.image_set import DataError, ImageSet, InMemory
from training.data.sources import load_images
from training.recipe import AugmentationSettings, Recipe


def load_outliers(recipe: Recipe, root: Path) -> ImageSet | None:
    """Return the outliers: the training images of outliers.data without the classes left out; None if not asked for.

    Raises DataError: the data set is not there, an entry of left_out is no class of it, or none is left.
    """
    settings = recipe.outliers
    if settings is None:
        return None
    fitting = Fitting(size=recipe.data.size, shorter_side=recipe.data.shorter_side)
    images = load_images(
        root,
        settings.data,
        "train",
        fitting,
        skip_unreadable=recipe.data.skip_unreadable,
        limit_per_class=recipe.data.limit_per_class,
    )
    first_words = [name.split()[0] for name in images.classes]
    unknown = [name for name in settings.left_out if name not in images.classes and name not in first_words]
    if unknown:
        raise DataError(f"outliers.left_out names what is no class of {settings.data!r}: {', '.join(unknown)}")
    kept = [
        label
        for label, (name, word) in enumerate(zip(images.classes, first_words, strict=True))
        if name not in settings.left_out and word not in settings.left_out
    ]
    outliers = images.take(np.flatnonzero(np.isin(images.labels, kept)))
    if not len(outliers):
        raise DataError(f"outliers.left_out leaves no image of {settings.data!r}")
    return outliers


def outlier_record(recipe: Recipe, outliers: ImageSet | None) -> dict[str, Any]:
    """Return what a run folder records of its outliers, under 'outliers'; nothing where there are none."""
    if recipe.outliers is None or outliers is None:
        return {}
    return {
        "outliers": {
            "name": outliers.name,
            "split": outliers.split,
            "digest": outliers.digest,
            "count": len(outliers),
            "left_out": recipe.outliers.left_out,
        }
    }


class OutlierFeed:
    """Outliers on the device, drawn with replacement by the step's own draws: nothing to carry over a resume."""

    def __init__(
        self, outliers: ImageSet, augmentation: AugmentationSettings, per_image: int, device: torch.device
    ) -> None:
        if not isinstance(outliers.pixels, InMemory):
            raise DataError("outliers of more than 64 pixels a side do not fit into memory; lower data.size")
        self._pixels = torch.from_numpy(outliers.pixels.array.transpose(0, 3, 1, 2).copy()).to(device)
        self._augmentation = augmentation
        self._per_image = per_image

    def draw(self, draws: Draws) -> Tensor:
        """Return a step's outliers, augmented as training images are: uint8 [per_image x images, 3, size, size]."""
        parts = []
        for _ in range(self._per_image):
            chosen = self._pixels[draws.integers(len(self._pixels))]
            parts.append(augment(chosen, self._augmentation, draws))
        return torch.cat(parts)
