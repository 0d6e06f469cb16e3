"""Synthetic out-of-distribution sets (Section 4.1): Gaussian, Rademacher and Blobs noise, seeded, as uint8 images.

The forms are those of the Outlier Exposure papers' evaluation, which Section 4.1 follows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from training.data.image_set import Images

BLOB_DENSITY = 0.7
BLOB_THRESHOLD = 0.75
BLOB_BLUR = 1.5  # standard deviation in pixels, of an image of 32


def gaussian(count: int, size: int, seed: int) -> Images:
    """Each value N(0.5, 0.5^2), clipped to [0, 1]: uint8 [count, size, size, 3]."""
    drawn = np.random.default_rng(seed).normal(0.5, 0.5, (count, size, size, 3))
    return _to_uint8(drawn)


def rademacher(count: int, size: int, seed: int) -> Images:
    """Each value 0 or 255 with equal probability: uint8 [count, size, size, 3]."""
    bits = np.random.default_rng(seed).integers(0, 2, (count, size, size, 3), dtype=np.uint8)
    return np.where(bits, 255, 0).astype(np.uint8)


def blobs(count: int, size: int, seed: int) -> Images:
    """Bright amorphous shapes with sharp edges on black: blurred Bernoulli noise, everything below a threshold cut.

    uint8 [count, size, size, 3]. The blur runs over rows, columns and channels alike, and grows with ``size``.
    """
    generator = np.random.default_rng(seed)
    sigma = BLOB_BLUR * size / 32
    images = np.empty((count, size, size, 3), np.uint8)
    for index in range(count):
        dots = (generator.random((size, size, 3)) < BLOB_DENSITY).astype(np.float32)
        blurred = gaussian_filter(dots, (sigma, sigma, BLOB_BLUR), mode="nearest")
        images[index] = _to_uint8(np.where(blurred < BLOB_THRESHOLD, 0, blurred))
    return images


NOISES: dict[str, Callable[[int, int, int], Images]] = {
    "gaussian": gaussian,
    "rademacher": rademacher,
    "blobs": blobs,
}


def _to_uint8(values: NDArray[np.floating]) -> Images:
    return np.asarray(np.rint(np.clip(values, 0, 1) * 255), np.uint8)
