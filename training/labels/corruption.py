"""Corrupted labels: the corruption matrix, the seeded corruption of a training set, and its trusted images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.draws import generator
from training.data.image_set import DataError, ImageSet, Labels
from training.data.splits import hold_out
from training.recipe_tables.labels import LabelSettings

Matrix = NDArray[np.float64]


def corruption_matrix(classes: int, strength: float) -> Matrix:
    """Return C [classes, classes], C[i, j] = p(label becomes j | it is i) = (1 - s) I + s 11^T / K (Section 3.3).

    ``strength`` s in [0, 1]. Rows sum to 1. At s = 0 it is the identity, at s = 1 all of it is 1 / classes.
    """
    matrix: Matrix = (1 - strength) * np.eye(classes) + strength / classes
    return matrix


def corrupt(labels: Labels, classes: int, strength: float, seed: int) -> Labels:
    """Return ``labels`` [N] after the corruption of ``corruption_matrix``: a share s is drawn anew from all classes.

    Which image has which draws depends on ``seed`` and its place alone, so the labels that a smaller strength draws
    anew are drawn alike by a larger one.
    """
    draws = generator("labels", seed)
    drawn_anew = draws.random(len(labels)) < strength
    return np.where(drawn_anew, draws.integers(classes, size=len(labels)), labels)


@dataclass(frozen=True)
class CorruptedLabels:
    """Labels to train on, int64 [N], and ``trusted`` bool [N], the images whose labels are known to be clean.

    ``changed`` counts the labels that differ from the clean ones; a label drawn anew may come out the same.
    """

    labels: Labels
    trusted: NDArray[np.bool_]
    changed: int

    @property
    def digest(self) -> str:
        """Digest ('sha256:...') of labels and trust, in the order of the images."""
        content = np.stack([self.labels, self.trusted.astype(np.int64)], axis=1).astype("<i8")
        return f"sha256:{hashlib.sha256(content.tobytes()).hexdigest()}"

    def record(self, settings: LabelSettings) -> dict[str, Any]:
        """Return what a run records of its labels; 'changed' is a share of the untrusted ones."""
        untrusted = int((~self.trusted).sum())
        return {
            "strength": settings.strength,
            "correction": settings.correction,
            "seed": settings.seed,
            "trusted": int(self.trusted.sum()),
            "untrusted": untrusted,
            "changed": self.changed / max(1, untrusted),
            "digest": self.digest,
        }


def corrupted_labels(images: ImageSet, settings: LabelSettings) -> CorruptedLabels:
    """Return the labels that ``images`` are trained on: trusted ones as they are, the others corrupted.

    Raises DataError if a class has too few images to trust one of them.
    """
    trusted = np.zeros(len(images), dtype=np.bool_)
    if settings.trusted > 0:
        seed = int(generator("trusted", settings.seed).integers(1 << 63))
        trusted[hold_out(images.labels, settings.trusted, 1, seed)[1]] = True
        counts = np.bincount(images.labels[trusted], minlength=len(images.classes))
        if not counts.all():
            lacking = ", ".join(images.classes[label] for label in np.flatnonzero(counts == 0))
            raise DataError(f"too few training images to trust one of: {lacking}")
    corrupted = corrupt(images.labels, len(images.classes), settings.strength, settings.seed)
    labels = np.where(trusted, images.labels, corrupted)
    return CorruptedLabels(labels, trusted, int((labels != images.labels).sum()))
