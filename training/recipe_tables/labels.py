"""The recipe table ``labels``: how the training labels are corrupted and what is done about it (Section 3.3)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from training.recipe_tables.base import Settings


class LabelSettings(Settings):
    """Corrupt the labels of the training images; those of the calibration and test images stay clean.

    ``strength`` s in [0, 1]: C = (1 - s) I + s 11^T / K. ``trusted``: share of each class of the training images whose
    labels stay clean and are known to be. ``correction``: 'glc' (Gold Loss Correction, needs trusted images),
    'forward' (Forward correction, has none) or 'none'. ``seed`` draws the corruption and the trusted images; at one
    seed, the labels that a smaller strength changes are changed alike by a larger one.
    """

    strength: Annotated[float, Field(ge=0, le=1)]
    trusted: Annotated[float, Field(ge=0, lt=1)]
    correction: Literal["none", "glc", "forward"]
    seed: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _trusted_images_are_used(self) -> LabelSettings:
        if self.correction == "glc" and self.trusted == 0:
            raise ValueError("correction 'glc' needs trusted images: trusted above 0")
        if self.correction != "glc" and self.trusted > 0:
            raise ValueError(f"correction {self.correction!r} has no use for trusted images: trusted = 0.0")
        return self
