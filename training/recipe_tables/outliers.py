"""The recipe table of Outlier Exposure."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from training.recipe_tables.base import Settings


class OutlierSettings(Settings):
    """Outlier Exposure (Hendrycks et al. 2019b): images that are none of the classes, shown beside the others.

    ``data``: a data set of the root; its training images are the outliers. ``left_out``: its classes that share
    kinds with the training data, by folder name or by the first word of it. ``weight``: of the cross entropy from
    the uniform distribution to the classes' softmax on outliers. ``per_image``: outliers for each training image.
    """

    data: Annotated[str, Field(min_length=1)]
    left_out: list[str]
    weight: Annotated[float, Field(gt=0)]
    per_image: Annotated[int, Field(ge=1)]
