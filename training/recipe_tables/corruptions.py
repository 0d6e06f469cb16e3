"""The recipe table ``evaluation.corruptions``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from training.recipe_tables.base import Settings


class CorruptionSettings(Settings):
    """``data``: folder of the data root in CIFAR-10-C's layout. ``limit``: images a corruption and severity, 0: all.

    The same images are taken for every corruption and severity, of each class its share.
    """

    data: Annotated[str, Field(min_length=1)]
    limit: Annotated[int, Field(ge=0)]
