"""Motion blur along an angle, as ImageMagick defines it: the one the makers used, for photographs and for snow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.corruptions.pixels import Values, gather
from training.data.image_set import Images

SIXTEEN_BITS = 257  # levels of 16 bits to one of 8


def motion_kernel(radius: int, sigma: float) -> NDArray[np.float64]:
    """Return the weights of the 2 · radius + 1 pixels on one side of a pixel, itself first: half a Gaussian, sum 1."""
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    return np.asarray(weights / weights.sum())


def motion_blur_along(images: Images, radius: int, sigma: float, degrees: Values) -> Images:
    """Blur ``images`` uint8 [N, H, W, C], each along its own angle ``degrees`` [N].

    Pixel i of the kernel lies i · (cos, sin) to the right and down, to the nearest pixel; beyond an edge stands the
    edge's own pixel. The sum is rounded to 16 bits and then cut to 8.
    """
    count, height, width, _ = images.shape
    rows = np.broadcast_to(np.arange(height)[None, :, None], (count, height, width))
    columns = np.broadcast_to(np.arange(width)[None, None, :], (count, height, width))
    angles = np.deg2rad(degrees)[:, None, None]
    blurred = np.zeros(images.shape)
    for step, weight in enumerate(motion_kernel(radius, sigma)):
        down = np.ceil(step * np.sin(angles) - 0.5).astype(np.int64)
        right = np.ceil(step * np.cos(angles) - 0.5).astype(np.int64)
        blurred += weight * gather(images, rows + down, columns + right, "edge")
    return (np.rint(blurred * SIXTEEN_BITS) / SIXTEEN_BITS).astype(np.uint8)
