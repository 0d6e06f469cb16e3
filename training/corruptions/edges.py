"""Canny's edges and the distance to them, of many small 8-bit images at once, as OpenCV defines both.

Own code, of a page, so that OpenCV (60 MB) is needed by none who trains; the tests compare with it where it is there.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate, label

from training.corruptions.pixels import Values

Mask = NDArray[np.bool_]

SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
TANGENT_OF_22_5 = np.sqrt(2) - 1
TANGENT_OF_67_5 = np.sqrt(2) + 1
# Lengths of the steps to a side, over a corner, and of a knight's move.
SIDE, CORNER, KNIGHT = 1.0, 1.4, 2.1969


def canny_edges(images: NDArray[np.uint8], low: int, high: int) -> Mask:
    """Return the edge pixels of images [N, H, W]: 3x3 Sobel, |dx| + |dy|, thinned, followed from ``high`` to ``low``.

    A pixel is an edge if its gradient is above ``low``, the largest across the edge (towards the nearest of four
    directions), and linked through such pixels to one above ``high``.
    """
    values = images.astype(np.int64)
    across = correlate(values, SOBEL[None], mode="nearest")
    down = correlate(values, SOBEL.T[None], mode="nearest")
    size = np.abs(across) + np.abs(down)
    padded = np.pad(size, ((0, 0), (1, 1), (1, 1)))

    def beside(rows: int, columns: int) -> NDArray[np.int64]:
        height, width = size.shape[1:]
        return padded[:, 1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]

    flat = np.abs(down) < np.abs(across) * TANGENT_OF_22_5
    steep = np.abs(down) > np.abs(across) * TANGENT_OF_67_5
    falling = (across < 0) == (down < 0)  # the gradient points along the main diagonal
    largest = np.select(
        [flat, steep, falling],
        [
            (size > beside(0, -1)) & (size >= beside(0, 1)),
            (size > beside(-1, 0)) & (size >= beside(1, 0)),
            (size > beside(-1, -1)) & (size > beside(1, 1)),
        ],
        (size > beside(-1, 1)) & (size > beside(1, -1)),
    )
    candidates = largest & (size > low)
    eight_neighbours = np.zeros((3, 3, 3), np.bool_)
    eight_neighbours[1] = True  # none between images
    lines, count = label(candidates, eight_neighbours)
    kept = np.zeros(count + 1, np.bool_)
    kept[lines[candidates & (size > high)]] = True
    return np.asarray(kept[lines] & candidates)


@cache
def _step_lengths(side: int) -> NDArray[np.float32]:
    """Return the length [2 · side - 1, 2 · side - 1] of the shortest way to each displacement; (0, 0) in the middle."""
    reach = np.abs(np.arange(-side + 1, side))
    longer, shorter = np.maximum.outer(reach, reach), np.minimum.outer(reach, reach)
    mostly_straight = shorter * KNIGHT + (longer - 2 * shorter) * SIDE
    mostly_diagonal = (longer - shorter) * KNIGHT + (2 * shorter - longer) * CORNER
    return np.where(longer >= 2 * shorter, mostly_straight, mostly_diagonal).astype(np.float32)


def chamfer_distance(edges: Mask) -> Values:
    """Return each pixel's distance to the nearest edge pixel of [N, S, S], by steps of 5x5; infinite without one."""
    side = edges.shape[1]
    lengths = _step_lengths(side)
    rows, columns = np.mgrid[0:side, 0:side]
    distances = np.full(edges.shape, np.inf)
    for distance, mask in zip(distances, edges, strict=True):
        edge_rows, edge_columns = np.nonzero(mask)
        if len(edge_rows):
            down = rows[..., None] - edge_rows + side - 1
            right = columns[..., None] - edge_columns + side - 1
            distance[:] = lengths[down, right].min(axis=-1)
    return distances
