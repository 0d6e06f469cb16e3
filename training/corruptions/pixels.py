"""Between uint8 images and the values in [0, 1] that corruptions compute with, and looking values up off the grid."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from training.data.image_set import Images

Values = NDArray[np.floating[Any]]
Scalar = TypeVar("Scalar", bound=np.generic)
Whole = NDArray[np.int64]

# 'edge': a a | a b c | c c. 'mirror': c b | a b c | b a. 'reflect': b a | a b c | c b.
Border = Literal["edge", "mirror", "reflect"]


def to_unit(images: Images) -> Values:
    """Return uint8 images as float64 in [0, 1]."""
    return images / 255.0


def to_bytes(values: Values) -> Images:
    """Return values clipped to [0, 1] as uint8, what is left of a whole level cut off, as the makers do."""
    return (np.clip(values, 0, 1) * 255).astype(np.uint8)


def inside(index: Whole, size: int, border: Border) -> Whole:
    """Return the index in 0 .. size-1 whose pixel stands at ``index``, which may lie outside."""
    if border == "edge":
        return np.clip(index, 0, size - 1)
    if border == "mirror":
        folded = np.mod(index, 2 * (size - 1))
        return np.where(folded >= size, 2 * (size - 1) - folded, folded)
    folded = np.mod(index, 2 * size)
    return np.where(folded >= size, 2 * size - 1 - folded, folded)


def gather(values: NDArray[Scalar], rows: Whole, columns: Whole, border: Border) -> NDArray[Scalar]:
    """Return from ``values`` [N, H, W, C] the pixels at ``rows``, ``columns`` [N, h, w]: [N, h, w, C]."""
    count, height, width, _ = values.shape
    which = np.arange(count)[:, None, None]
    return values[which, inside(rows, height, border), inside(columns, width, border)]


def sample(values: Values, rows: Values, columns: Values, border: Border) -> Values:
    """Return ``values`` [N, H, W, C] at ``rows``, ``columns`` [N, h, w] off the grid, linear between four pixels."""
    top, left = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    upper = gather(values, top, left, border) * (1 - right) + gather(values, top, left + 1, border) * right
    lower = gather(values, top + 1, left, border) * (1 - right) + gather(values, top + 1, left + 1, border) * right
    return np.asarray(upper * (1 - down) + lower * down)
