"""Seeded splits of labelled images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGEST_SHARE = 1 / 3  # a small data set gives at most this share to calibration


def hold_out(
    labels: NDArray[np.int64], share: float, minimum: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split indices of ``labels`` [N] into (kept, held out), each ascending, class by class.

    Of each class ``share`` is held out, or more evenly so that ``minimum`` are in all; never more than a third of the
    whole for the minimum's sake, and never the last image of a class.
    """
    generator = np.random.default_rng(seed)
    effective = max(share, min(minimum / len(labels), LARGEST_SHARE)) if len(labels) else share
    held: list[NDArray[np.int64]] = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        count = min(int(np.ceil(effective * len(members) - 1e-9)), len(members) - 1)
        held.append(members[:count])
    held_out = np.sort(np.concatenate(held)) if held else np.empty(0, np.int64)
    kept = np.setdiff1d(np.arange(len(labels)), held_out, assume_unique=True)
    return kept, held_out


def halves(count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split 0..count-1 at random into two halves, each ascending; the first has the odd one."""
    order = np.random.default_rng(seed).permutation(count)
    middle = (count + 1) // 2
    return np.sort(order[:middle]), np.sort(order[middle:])


def share_of_each_class(labels: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Return ascending indices of about ``limit`` of ``labels`` (0: all), of each class its share and at least one.

    Fewer are always some of those that more would be.
    """
    if limit == 0 or limit >= len(labels):
        return np.arange(len(labels), dtype=np.int64)
    generator = np.random.default_rng(0)
    chosen = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        chosen.append(members[: max(1, round(limit * len(members) / len(labels)))])
    return np.sort(np.concatenate(chosen))
