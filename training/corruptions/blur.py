"""Blur: Gaussian, frosted glass, defocus, motion and zoom.

Each function takes images uint8 [N, 32, 32, 3], a severity 1 .. 5 and a generator, and returns images alike. The
constants are the makers' for 32 pixels (Hendrycks and Dietterich 2019, CIFAR-10-C). Where what their script does is not
what it says, this does what it does, as the published files come from it (docs/decisions/0010).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate, gaussian_filter, zoom

from training.corruptions.motion import motion_blur_along
from training.corruptions.pixels import Values, gather, to_bytes, to_unit
from training.data.image_set import Images

GAUSSIAN_SIGMA = (0.4, 0.6, 0.7, 0.8, 1.0)
GLASS_SIGMA_ROUNDS = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))
DEFOCUS_RADIUS_ALIAS = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))
MOTION_RADIUS_SIGMA = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))
MOTION_DEGREES = 45.0
# The zoom factors are numpy's own range of these: by rounding it includes the first two stops, and its 1.25 is a little
# more than 1.25, which shows: 26 pixels stretched by it are 33, not 32.
ZOOM_STOP_STEP = ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01))


def blur_each(values: Values, sigma: float) -> Values:
    """Return ``values`` [N, H, W, ...] blurred over rows and columns alone; at the edge the edge's own value."""
    sigmas = (0.0, sigma, sigma) + (0.0,) * (values.ndim - 3)
    return np.asarray(gaussian_filter(values, sigmas, mode="nearest", truncate=4.0))


def gaussian_blur(images: Images, severity: int, generator: np.random.Generator) -> Images:
    """A Gaussian of standard deviation sigma pixels, cut at four of them. Draws nothing."""
    return to_bytes(blur_each(to_unit(images), GAUSSIAN_SIGMA[severity - 1]))


def glass_blur(images: Images, severity: int, generator: np.random.Generator) -> Images:
    """Blur, shuffle pixels locally for some rounds, blur.

    The makers' loop is written as a swap of each pixel with one up to one pixel above and left, from the last row and
    column to the third; over views of an array it copies that pixel and leaves it. None is read after it was written,
    so a round is one look-up: rows and columns from the third on take a pixel 0 or 1 above and 0 or 1 left.
    """
    sigma, rounds = GLASS_SIGMA_ROUNDS[severity - 1]
    shuffled: Images = to_bytes(blur_each(to_unit(images), sigma))
    count, height, width, _ = images.shape
    rows, columns = np.mgrid[2:height, 2:width]
    for _ in range(rounds):
        up, left = generator.integers(0, 2, (2, count, height - 2, width - 2))
        shuffled = shuffled.copy()
        shuffled[:, 2:, 2:] = gather(shuffled, rows - up, columns - left, "edge")
    return to_bytes(blur_each(to_unit(shuffled), sigma))


def defocus_kernel(radius: float, alias: float) -> NDArray[np.float64]:
    """Return the weights [5, 5] of a disk of ``radius`` pixels, smoothed by three taps of a Gaussian; sum 1."""
    rows, columns = np.mgrid[-2:3, -2:3]
    disk = (rows**2 + columns**2 <= radius**2).astype(np.float64)
    taps = np.exp(-(np.arange(-1, 2) ** 2) / (2 * alias**2))
    smooth = np.outer(taps, taps) / taps.sum() ** 2
    return np.asarray(correlate(disk / disk.sum(), smooth, mode="constant"))


def defocus_blur(images: Images, severity: int, generator: np.random.Generator) -> Images:
    """The mean over a disk of pixels, mirrored at the edge. Draws nothing."""
    kernel = defocus_kernel(*DEFOCUS_RADIUS_ALIAS[severity - 1])
    return to_bytes(correlate(to_unit(images), kernel[None, :, :, None], mode="mirror"))


def motion_blur(images: Images, severity: int, generator: np.random.Generator) -> Images:
    """A one-sided Gaussian along an angle uniform in ±45°, one an image."""
    degrees = generator.uniform(-MOTION_DEGREES, MOTION_DEGREES, len(images))
    return motion_blur_along(images, *MOTION_RADIUS_SIGMA[severity - 1], degrees)


def zoom_matrix(factor: float, size: int) -> NDArray[np.float64]:
    """Return the matrix [size, size] that enlarges the middle of a line of ``size`` values by ``factor``, cut to size.

    The middle ceil(size / factor) values are stretched linearly, first and last of them staying first and last.
    """
    kept = math.ceil(size / factor)
    first = (size - kept) // 2
    stretched = zoom(np.eye(kept), (factor, 1), order=1)
    cut = (len(stretched) - size) // 2
    matrix = np.zeros((size, size))
    matrix[:, first : first + kept] = stretched[cut : cut + size]
    return matrix


def zoomed(values: Values, factor: float) -> Values:
    """Return ``values`` [N, S, S, C] enlarged about the middle by ``factor``."""
    matrix = zoom_matrix(factor, values.shape[1])
    lines = np.einsum("ij,njwc->niwc", matrix, values, optimize=True)
    return np.asarray(np.einsum("ij,nhjc->nhic", matrix, lines, optimize=True))


def zoom_blur(images: Images, severity: int, generator: np.random.Generator) -> Images:
    """The mean of the image and its enlargements by 1, 1.01, 1.02, ... Draws nothing."""
    values = to_unit(images)
    factors = np.arange(1, *ZOOM_STOP_STEP[severity - 1])
    total = values + sum(zoomed(values, float(factor)) for factor in factors)
    return to_bytes(total / (len(factors) + 1))
