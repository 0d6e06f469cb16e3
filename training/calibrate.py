"""Calibration: scores of normal images the network never saw, the yardstick of every p-value (design: Calibration)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.graphs.calibration import LARGEST, calibration_choice
from serving.graphs.manifest import Calibration
from training.data.image_set import DataError, ImageSet
from training.graph_runner import GraphRunner


def calibrate(runner: GraphRunner, images: ImageSet, split: str, in_class: str | None = None) -> Calibration:
    """Score ``images``, of more than LARGEST a seeded choice of so many, and return the scores ascending.

    ``split`` says in words where the images come from; the digest is of their pixels, in the order scored. Raises
    DataError without an image, or for a score that is not finite.
    """
    if len(images) == 0:
        raise DataError(f"there are no images of {images.name!r} to calibrate on: {split} is empty")
    if len(images) > LARGEST:
        images = images.take(calibration_choice(len(images), LARGEST))
    outputs, digest = runner.score_and_digest(images, f"calibrating on {len(images)} images")
    ascending = ascending_scores(outputs["anomaly_score"])
    return Calibration(
        n=len(ascending),
        scores=ascending.tolist(),
        data=images.name if in_class is None else f"{images.name}, class {in_class}",
        split=split,
        digest=digest,
    )


def ascending_scores(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``scores`` as float32 in ascending order. Raises DataError if one is not finite."""
    if not np.isfinite(scores).all():
        raise DataError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} calibration scores are not finite")
    return np.sort(scores.astype(np.float32))
