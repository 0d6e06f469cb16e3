"""The images that are sent: seeded, with shapes and textures at every scale like a photograph, and no two alike."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# One megapixel; a JPEG of it at quality 90 has some hundred kilobytes, as a photograph would.
MEGAPIXEL = (1250, 800)


def textured(width: int, height: int, seed: int) -> Image.Image:
    """Return an RGB picture: a sum of smooth random fields, each octave half as coarse and weaker than the last."""
    generator = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    cells, weight = 2, 1.0
    while cells < max(width, height) / 2:
        total += weight * _smooth_field(generator, cells, width, height)
        cells, weight = cells * 2, weight * 0.55
    total -= total.min(axis=(0, 1))
    return Image.fromarray((total / total.max(axis=(0, 1)) * 255).round().astype(np.uint8))


def png(image: Image.Image) -> bytes:
    """Return the picture as a PNG file."""
    return _encoded(image, "PNG")


def jpeg(image: Image.Image) -> bytes:
    """Return the picture as a baseline JPEG file of quality 90."""
    return _encoded(image, "JPEG", quality=90)


def _smooth_field(generator: np.random.Generator, cells: int, width: int, height: int) -> NDArray[np.float32]:
    rows = max(2, round(cells * height / width))
    coarse = generator.normal(size=(3, rows, cells)).astype(np.float32)
    planes = [Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC) for plane in coarse]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
