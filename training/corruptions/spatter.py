"""Spatter: drops of water (severities 1 to 3) or mud (4 and 5) on the lens.

The water's thickness is drawn by image processing on 8-bit levels as OpenCV defines each step; its roundings matter, as
the histogram is spread over the whole range.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate

from training.corruptions.blur import blur_each
from training.corruptions.edges import canny_edges, chamfer_distance
from training.corruptions.pixels import Values, to_bytes, to_unit
from training.data.image_set import Images

# Mean, standard deviation and blur of the liquid, the cut below which there is none; then the water's opacity (1 to 3)
# or the blur of the mud's outline (4 and 5). The makers' constants for 32 pixels (CIFAR-10-C).
SPATTER = (
    (0.62, 0.1, 0.7, 0.7, 0.5),
    (0.65, 0.1, 0.8, 0.7, 0.5),
    (0.65, 0.3, 1.0, 0.69, 0.5),
    (0.65, 0.1, 0.7, 0.69, 0.6),
    (0.65, 0.1, 0.5, 0.68, 0.6),
)
FIRST_MUD = 4
WATER = np.array([175, 238, 238]) / 255
MUD = np.array([63, 42, 20]) / 255
THINNEST_MUD = 0.8
EDGE_LOW, EDGE_HIGH = 50, 150
FARTHEST = 20
EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])

Levels = NDArray[np.uint8]


def spatter(images: Images, severity: int, generator: np.random.Generator) -> Images:
    """Lay water over the image (added light) or mud (in its place); images uint8 [N, 32, 32, 3] in and out."""
    mean, std, sigma, cut, last = SPATTER[severity - 1]
    liquid = blur_each(generator.normal(mean, std, images.shape[:3]), sigma)
    values = to_unit(images)
    if severity < FIRST_MUD:
        levels = (np.where(liquid < cut, 0, liquid) * 255).astype(np.int64) % 256  # the makers' 8 bits overflow
        thickness = last * water_thickness(levels.astype(np.uint8))[..., None]
        return to_bytes(values + thickness * WATER)
    cover = blur_each((liquid > cut).astype(np.float64), last)
    cover = np.where(cover < THINNEST_MUD, 0, cover)[..., None]
    return to_bytes(values * (1 - cover) + cover * MUD)


def water_thickness(liquid: Levels) -> Values:
    """Return how thick the water stands, [N, H, W], 1 at most: thickest far inside a drop's outline."""
    outlines = canny_edges(liquid, EDGE_LOW, EDGE_HIGH)
    far = np.minimum(chamfer_distance(outlines), FARTHEST)
    spread = equalised(np.floor(_box_mean(far)).astype(np.uint8))
    embossed = np.clip(correlate(spread.astype(np.int64), EMBOSS[None], mode="mirror"), 0, 255)
    thickness = liquid * np.rint(_box_mean(embossed.astype(np.float64)))
    most = thickness.max(axis=(1, 2), keepdims=True)
    return np.asarray(thickness / np.where(most > 0, most, 1))


def equalised(levels: Levels) -> Levels:
    """Spread the levels of each of [N, H, W] over 0 .. 255 so that their cumulative histogram rises evenly."""
    return np.stack([_equalised(one) for one in levels])


def _equalised(levels: Levels) -> Levels:
    counts = np.bincount(levels.ravel(), minlength=256)
    lowest = int(levels.min())
    above = levels.size - counts[lowest]
    if above == 0:
        return levels
    counts[lowest] = 0
    table = np.rint(np.cumsum(counts) * np.float32(255 / above)).astype(np.uint8)
    return np.asarray(table[levels])


def _box_mean(values: Values) -> Values:
    return np.asarray(correlate(values, np.ones((1, 3, 3)), mode="mirror") / 9)
