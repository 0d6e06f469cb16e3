"""Stand-ins for the frost photographs, laid out as the package that ships them lays them out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from training.corruptions.frost_photographs import FILES, PACKAGE


def write_photographs(folder: Path, size: tuple[int, int] = (215, 240)) -> None:
    """Write small photographs of noise: folder/imagecorruptions/frost/frost1.png and on."""
    place = folder / PACKAGE / "frost"
    place.mkdir(parents=True)
    (folder / PACKAGE / "__init__.py").write_text("raise ImportError('its images are wanted, not the package')")
    for index, name in enumerate(FILES):
        pixels = np.random.default_rng(index).integers(100, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / name)
