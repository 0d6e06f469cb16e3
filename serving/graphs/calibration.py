"""Calibration: what share of unseen normal images scores at least as high (design: Calibration).

A raw score means nothing to a user. ``p = (1 + #{calibration scores >= s}) / (n + 1)``: a high score has a low p, the
smallest is 1 / (n + 1), and for a new image that is exchangeable with the calibration images P(p <= alpha) <= alpha,
on average over calibration sets.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A graph keeps so many calibration scores at most, of more images a choice by this seed.
LARGEST = 10_000
_CHOICE_SEED = 0


def p_values(scores: NDArray[np.floating[Any]], ascending: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the p-value of each score, in (0, 1], of the shape of ``scores``.

    ``ascending`` holds the n >= 1 calibration scores in ascending order. A score equal to a calibration score counts as
    no higher. NaN, which no graph should give, gets the smallest p-value: an alarm and not a pass.
    """
    at_least = ascending.size - np.searchsorted(ascending, scores, side="left")
    return np.asarray((1.0 + at_least) / (ascending.size + 1.0), dtype=np.float64)


def p_value(score: float, ascending: NDArray[np.floating[Any]]) -> float:
    """Return the p-value of one score, a float32's exact value, as ``p_values`` does of many: five times as fast."""
    at_least = 0 if math.isnan(score) else ascending.size - bisect_left(ascending.data, score)
    return (1.0 + at_least) / (ascending.size + 1.0)


def smallest_alpha(n: int) -> float:
    """Return the smallest p-value that n calibration scores can give: an alpha below it never fires."""
    return 1.0 / (n + 1)


def model_threshold(alpha: float, models: int) -> float:
    """Return alpha / models, the p-value at or below which one of several models raises the whole answer's alarm.

    Bonferroni: however the models' scores depend on each other, the answer's false-alarm rate stays at alpha.
    """
    return alpha / models


def calibration_choice(count: int, largest: int = LARGEST) -> NDArray[np.int64]:
    """Return the indices of the images that calibrate, ascending: all ``count``, or a seeded choice of ``largest``."""
    return np.sort(np.random.default_rng(_CHOICE_SEED).permutation(count)[:largest])
