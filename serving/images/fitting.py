"""Fitting: the size to which an image is brought before a graph takes it, a part of the graph contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator


class Fitting(BaseModel):
    """How an image is brought to the input size: shorter side to ``shorter_side``, then a centre crop of ``size``.

    Both in pixels; ``size`` is the graph's static height and width, ``shorter_side >= size``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Annotated[int, Field(gt=0)]
    shorter_side: Annotated[int, Field(gt=0)]

    @property
    def image_bytes(self) -> int:
        """Bytes of one image brought to this size."""
        return 3 * self.size**2

    @model_validator(mode="after")
    def _crop_fits(self) -> Fitting:
        if self.shorter_side < self.size:
            raise ValueError(f"shorter_side {self.shorter_side} is smaller than the crop of {self.size}")
        return self


# One image at every size wanted: uint8 [size, size, 3] each.
Fitted = Mapping[Fitting, NDArray[np.uint8]]
