"""Score comparison: how the scores of some images differ from those of the images a graph was calibrated on.

Two-sample statistics in NumPy, as the serving side has no SciPy; tests hold them against SciPy's. Higher scores are
more anomalous.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class Alarms:
    """Alarms at ``alpha``: above which score the old and the new calibration raise one, None where neither ever does.

    ``rate`` is the share of the new images that raise one by the old calibration, in [0, 1], with its exact binomial
    interval ``lowest`` to ``highest``; ``alpha`` was meant.
    """

    alpha: float
    old_threshold: float | None
    new_threshold: float | None
    rate: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Comparison:
    """Old calibration scores beside those of new images.

    ``distance`` and ``p_value`` are of the two-sample Kolmogorov-Smirnov test: the largest difference of the two
    distribution functions, in [0, 1], and how often images of one distribution differ so much. ``auroc``: probability
    that a new image scores above an old one, ties counted half; 0.5 where they are alike.
    """

    old_n: int
    new_n: int
    old_quantiles: tuple[float, ...]
    new_quantiles: tuple[float, ...]
    alarms: tuple[Alarms, ...]
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
    effective = np.sqrt(len(one) * len(other) / (len(one) + len(other)))
    scaled = distance * (effective + 0.12 + 0.11 / effective)
    if scaled < 0.3:  # the series converges slowly where its sum is 1 to five digits
        return distance, 1.0
    terms = np.arange(1, 101)
    tail = 2 * np.sum((-1.0) ** (terms - 1) * np.exp(-2 * (terms * scaled) ** 2))
    return distance, float(np.clip(tail, 0, 1))


def binomial_interval(successes: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact (Clopper-Pearson) interval of a probability, of which so many trials gave so many successes."""
    tail = (1 - confidence) / 2
    lowest = _bisect(lambda p: 1 - _binomial_cdf(successes - 1, trials, p) < tail) if successes > 0 else 0.0
    highest = _bisect(lambda p: _binomial_cdf(successes, trials, p) > tail) if successes < trials else 1.0
    return lowest, highest


def _alarms(old: Scores, new: Scores, alpha: float) -> Alarms:
    count = int(np.sum(p_values(new, old) <= alpha))
    lowest, highest = binomial_interval(count, len(new))
    thresholds = alarm_threshold(old, alpha), alarm_threshold(new, alpha)
    return Alarms(alpha, *thresholds, rate=count / len(new), lowest=lowest, highest=highest)


def _quantiles(scores: Scores) -> tuple[float, ...]:
    return tuple(np.quantile(scores.astype(np.float64), LEVELS).tolist())


def _binomial_cdf(successes: int, trials: int, p: float) -> float:
    """P(at most so many successes), for 0 < p < 1."""
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    counts = np.arange(successes + 1)
    ways = log_factorials[trials] - log_factorials[counts] - log_factorials[trials - counts]
    return float(np.exp(ways + counts * np.log(p) + (trials - counts) * np.log1p(-p)).sum())


def _bisect(below: Callable[[float], bool]) -> float:
    """Return where in (0, 1) ``below`` turns from true to false."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return (low + high) / 2
