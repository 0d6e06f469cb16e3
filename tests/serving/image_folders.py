"""Folders of images for tests of the commands that read them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.graphs import solid


def save(path: Path, value: int, size: int = 32) -> Path:
    """Save one image of an even grey, its folder made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(solid(value, size)).save(path)
    return path


def save_greys(folder: Path, values: Iterable[int]) -> Path:
    """Save an even grey for each value, named by its place; return the folder."""
    for index, value in enumerate(values):
        save(folder / f"{index:05}.png", int(value))
    return folder


def greys(count: int, low: int, high: int, seed: int = 0) -> list[int]:
    """Return so many greys drawn from ``low`` to ``high``, all different."""
    return [low + int(value) for value in np.random.default_rng(seed).permutation(high - low + 1)[:count]]
