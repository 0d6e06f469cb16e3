"""Score comparison: how the scores of some images differ from those of the images a graph was calibrated on.

Two-sample statistics in NumPy, as the serving side has no SciPy; tests hold them against SciPy's. Higher scores are
more anomalous.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.graphs.calibration import p_values

Scores = NDArray[np.floating[Any]]

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
ALPHAS = (0.05, 0.01)
CONFIDENCE = 0.95
# A Kolmogorov-Smirnov test below this, or one of the tails, is taken for a difference.
SIGNIFICANCE = 0.05
# The scaled distance that has this p-value, and the quantile of the normal distribution above which a tenth lies.
_CRITICAL = 1.3581
_NINE_OF_TEN = 1.2816


@dataclass(frozen=True)
class Alarms:
    """Alarms at ``alpha``: above which score the old and the new calibration raise one, None where neither ever does.

    ``rate`` is the share of the new images that raise one by the old calibration, in [0, 1], with its exact binomial
    interval ``lowest`` to ``highest``; ``alpha`` was meant. The interval is about this one old calibration. ``p_value``
    is about the distributions: how often images of one distribution would raise so many, or so few, where the old
    calibration is drawn anew each time as well.
    """

    alpha: float
    old_threshold: float | None
    new_threshold: float | None
    rate: float
    lowest: float
    highest: float
    p_value: float

    @property
    def direction(self) -> int:
        """1 for certainly more alarms than meant, -1 for certainly fewer, 0 where ``alpha`` may well hold.

        0 also where the old calibration is too small for any: that says nothing of the images.
        """
        if self.old_threshold is None:
            return 0
        return (self.lowest > self.alpha) - (self.highest < self.alpha)


@dataclass(frozen=True)
class Comparison:
    """Old calibration scores beside those of new images.

    ``distance`` and ``p_value`` are of the two-sample Kolmogorov-Smirnov test: the largest difference of the two
    distribution functions, in [0, 1], and how often images of one distribution differ so much. ``auroc``: probability
    that a new image scores above an old one, ties counted half; 0.5 where they are alike. ``low_end``: what
    ``alarms[0]`` would be if low scores raised them, with the scores' signs turned.
    """

    old_n: int
    new_n: int
    old_quantiles: tuple[float, ...]
    new_quantiles: tuple[float, ...]
    alarms: tuple[Alarms, ...]
    low_end: Alarms
    distance: float
    p_value: float
    auroc: float


def compare_scores(old: Scores, new: Scores) -> Comparison:
    """Compare old calibration scores with those of new images; both ascending, finite and not empty."""
    distance, p_value = kolmogorov_smirnov(old, new)
    return Comparison(
        old_n=len(old),
        new_n=len(new),
        old_quantiles=_quantiles(old),
        new_quantiles=_quantiles(new),
        alarms=tuple(_alarms(old, new, alpha) for alpha in ALPHAS),
        low_end=_alarms(-old[::-1], -new[::-1], ALPHAS[0]),
        distance=distance,
        p_value=p_value,
        auroc=auroc(old, new),
    )


def alarm_threshold(ascending: Scores, alpha: float) -> float | None:
    """Return the score above which the p-value by these calibration scores is <= ``alpha``; None: it never is."""
    ranks = round(alpha * (len(ascending) + 1), 9)  # 1 + how many calibration scores may be as high
    return float(ascending[-int(ranks)]) if ranks >= 1 else None


def auroc(lower: Scores, higher: Scores) -> float:
    """Probability that one of ``higher`` is above one of ``lower``, ties counted half; ``lower`` ascending."""
    below = np.searchsorted(lower, higher, side="left") + np.searchsorted(lower, higher, side="right")
    return float(below.mean() / (2 * len(lower)))


def kolmogorov_smirnov(one: Scores, other: Scores) -> tuple[float, float]:
    """Return distance and p-value of the two-sample Kolmogorov-Smirnov test; both samples ascending.

    The p-value is the limit distribution's, with Stephens' correction for finite samples: where it is above 0.001,
    within a tenth of the exact one, and within a third for two samples of 20 each. Ties make it too large.
    """
    values = np.concatenate([one, other])
    shares = (np.searchsorted(sample, values, side="right") / len(sample) for sample in (one, other))
    distance = float(np.max(np.abs(next(shares) - next(shares))))
    scaled = distance * _scale(len(one), len(other))
    if scaled < 0.3:  # the series converges slowly where its sum is 1 to five digits
        return distance, 1.0
    terms = np.arange(1, 101)
    tail = 2 * np.sum((-1.0) ** (terms - 1) * np.exp(-2 * (terms * scaled) ** 2))
    return distance, float(np.clip(tail, 0, 1))


def distance_seen(n: int, m: int) -> float:
    """Return a true distance of which the test at level SIGNIFICANCE sees nine of ten, for n and m images.

    A bound for any two distributions: at the score where they are furthest apart the difference found is about normal
    with that mean, and a standard deviation of sqrt(1/n + 1/m) / 2 at most. Other scores can only add to it.
    """
    return float(_CRITICAL / _scale(n, m) + _NINE_OF_TEN * np.sqrt(1 / n + 1 / m) / 2)


def exceedance_p_value(exceeding: int, m: int, old_exceeding: int, n: int, tied: int = 0) -> float:
    """Return how often so many of m scores exceed one of n others of the same distribution, or a number as unlikely.

    ``old_exceeding`` of the n exceed it themselves. Exact (a beta-binomial distribution), two-sided by doubling the
    smaller side. Of m more are ``tied`` with it: whichever way they would have gone, the p-value is no smaller.
    """
    log = _log_factorials(n + m)
    counts = np.arange(m + 1)
    above = log[counts + old_exceeding] - log[counts] - log[old_exceeding]
    below = log[n + m - 1 - old_exceeding - counts] - log[m - counts] - log[n - 1 - old_exceeding]
    share = np.exp(above + below - (log[n + m] - log[m] - log[n]))
    return float(min(1.0, 2 * min(share[: exceeding + tied + 1].sum(), share[exceeding:].sum())))


def binomial_interval(successes: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact (Clopper-Pearson) interval of a probability, of which so many trials gave so many successes."""
    tail = (1 - confidence) / 2
    lowest = _bisect(lambda p: 1 - _binomial_cdf(successes - 1, trials, p) < tail) if successes > 0 else 0.0
    highest = _bisect(lambda p: _binomial_cdf(successes, trials, p) > tail) if successes < trials else 1.0
    return lowest, highest


def _alarms(old: Scores, new: Scores, alpha: float) -> Alarms:
    count = int(np.sum(p_values(new, old) <= alpha))
    lowest, highest = binomial_interval(count, len(new))
    threshold = alarm_threshold(old, alpha)
    p_value = 1.0
    if threshold is not None:
        old_count, tied = int(np.sum(old > threshold)), int(np.sum(new == threshold))
        p_value = exceedance_p_value(count, len(new), old_count, len(old), tied)
    return Alarms(
        alpha=alpha,
        old_threshold=threshold,
        new_threshold=alarm_threshold(new, alpha),
        rate=count / len(new),
        lowest=lowest,
        highest=highest,
        p_value=p_value,
    )


def _quantiles(scores: Scores) -> tuple[float, ...]:
    return tuple(np.quantile(scores.astype(np.float64), LEVELS).tolist())


def _binomial_cdf(successes: int, trials: int, p: float) -> float:
    """P(at most so many successes), for 0 < p < 1."""
    log_factorials = _log_factorials(trials)
    counts = np.arange(successes + 1)
    ways = log_factorials[trials] - log_factorials[counts] - log_factorials[trials - counts]
    return float(np.exp(ways + counts * np.log(p) + (trials - counts) * np.log1p(-p)).sum())


def _log_factorials(largest: int) -> NDArray[np.float64]:
    """Return log 0!, log 1!, ... to that of ``largest``."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, largest + 1)))])


def _scale(n: int, m: int) -> float:
    """Return Stephens' factor, by which a distance between n and m scores becomes one of the limit distribution."""
    effective = math.sqrt(n * m / (n + m))
    return effective + 0.12 + 0.11 / effective


def _bisect(below: Callable[[float], bool]) -> float:
    """Return where in (0, 1) ``below`` turns from true to false."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return (low + high) / 2
