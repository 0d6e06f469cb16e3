"""The photographs that frost is made of: not ours, taken from the optional package `imagecorruptions`.

Only its image files are read; the package itself, which asks for older libraries, is not imported.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from training.data.image_set import DataError, Images

PACKAGE = "imagecorruptions"
HOW_TO_GET = f"its photographs come with the package {PACKAGE}: pip install --no-deps {PACKAGE}"
# The sixth photograph of the package is not among those the makers draw from.
FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
SHRINK = 5


def frost_folder() -> Path | None:
    """Return the folder of the photographs, or None where they are not installed."""
    found = importlib.util.find_spec(PACKAGE)
    places = found.submodule_search_locations if found else None
    folders = [Path(place) / "frost" for place in places or ()]
    return next((folder for folder in folders if all((folder / name).is_file() for name in FILES)), None)


@cache
def frost_photographs() -> tuple[Images, ...]:
    """Return the photographs uint8 [H, W, 3] at a fifth of their size. Raises DataError if they are not installed.

    Linear interpolation at a fifth, as the makers shrink them, falls on the middle pixel of every five by five.
    """
    folder = frost_folder()
    if folder is None:
        raise DataError(f"frost cannot be made: {HOW_TO_GET}")
    middle = slice(SHRINK // 2, None, SHRINK)
    return tuple(np.asarray(Image.open(folder / name).convert("RGB"))[middle, middle] for name in FILES)
