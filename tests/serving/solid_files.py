"""Image files of one colour, and how a client sends them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from tests.graphs import solid


def png(pixels: np.ndarray) -> bytes:  # type: ignore[type-arg]
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


BLACK, WHITE = png(solid(0)), png(solid(255))


def files(*images: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", (f"{index}.png", image)) for index, image in enumerate(images)]
