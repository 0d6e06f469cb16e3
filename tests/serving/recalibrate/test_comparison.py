from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from serving.graphs.calibration import p_values
from serving.recalibrate.comparison import (
    LEVELS,
    alarm_threshold,
    auroc,
    binomial_interval,
    compare_scores,
    kolmogorov_smirnov,
)

ASCENDING = st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=60).map(
    lambda values: np.sort(np.array(values, np.float32))
)


def normal(count: int, seed: int, mean: float = 0.0, spread: float = 1.0) -> NDArray[np.float32]:
    return np.sort(np.random.default_rng(seed).normal(mean, spread, count).astype(np.float32))


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.5])
@pytest.mark.parametrize(("n", "m"), [(20, 20), (500, 20), (99, 200), (1000, 700), (4909, 150)])
def test_kolmogorov_smirnov_is_scipys(n: int, m: int, shift: float) -> None:
    one, other = normal(n, n), normal(m, m + 1, shift)
    distance, p_value = kolmogorov_smirnov(one, other)
    expected = stats.ks_2samp(one, other, method="exact" if n * m < 1e6 else "asymp")
    assert distance == pytest.approx(expected.statistic, abs=1e-12)
    if expected.pvalue > 1e-3:
        assert p_value == pytest.approx(expected.pvalue, rel=1 / 3 if n == m == 20 else 0.1)
    else:
        assert np.log(max(p_value, 1e-300)) == pytest.approx(np.log(expected.pvalue), rel=0.05)


@given(ASCENDING, ASCENDING)
def test_distance_and_auroc_of_any_samples_are_scipys(one: NDArray[np.float32], other: NDArray[np.float32]) -> None:
    distance, p_value = kolmogorov_smirnov(one, other)
    assert distance == pytest.approx(stats.ks_2samp(one, other, method="asymp").statistic, abs=1e-12)
    assert 0 <= p_value <= 1
    above = stats.mannwhitneyu(other, one, method="asymptotic").statistic if np.ptp(np.r_[one, other]) else None
    expected = 0.5 if above is None else above / (len(one) * len(other))
    assert auroc(one, other) == pytest.approx(expected)


def test_p_values_of_alike_samples_are_about_uniform() -> None:
    """Of 400 pairs of one distribution so many have p <= alpha as alpha says, within four standard deviations."""
    found = [kolmogorov_smirnov(normal(300, 2 * seed), normal(60, 2 * seed + 1))[1] for seed in range(400)]
    for alpha in (0.05, 0.2, 0.5):
        assert np.mean(np.array(found) <= alpha) == pytest.approx(alpha, abs=4 * np.sqrt(alpha * (1 - alpha) / 400))


@pytest.mark.parametrize("trials", [1, 20, 99, 480, 20_000])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.37, 1.0])
def test_the_binomial_interval_is_scipys(trials: int, share: float) -> None:
    successes = round(share * trials)
    expected = stats.binomtest(successes, trials).proportion_ci(0.95, method="exact")
    found = binomial_interval(successes, trials)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-8)
    assert binomial_interval(successes, trials, 0.5)[1] - binomial_interval(successes, trials, 0.5)[0] < (
        found[1] - found[0]
    )


@given(ASCENDING, st.sampled_from([0.5, 0.1, 0.05, 0.02, 0.01]))
def test_alarms_are_above_the_threshold_and_nowhere_else(ascending: NDArray[np.float32], alpha: float) -> None:
    threshold = alarm_threshold(ascending, alpha)
    candidates = np.sort(
        np.concatenate([ascending, np.nextafter(ascending, np.float32(1e9)), np.nextafter(ascending, np.float32(-1e9))])
    )
    alarmed = p_values(candidates, ascending) <= alpha
    assert alarmed.tolist() == [threshold is not None and score > threshold for score in candidates.tolist()]


def test_too_few_scores_never_raise_an_alarm() -> None:
    assert alarm_threshold(normal(98, 0), 0.01) is None
    assert alarm_threshold(normal(99, 0), 0.01) == normal(99, 0)[-1]


def test_a_comparison_holds_both_sides() -> None:
    old, new = normal(999, 0), normal(400, 1, mean=1.0)
    found = compare_scores(old, new)
    assert (found.old_n, found.new_n) == (999, 400)
    assert found.old_quantiles == pytest.approx(np.quantile(old, LEVELS), rel=1e-5)
    assert found.new_quantiles[LEVELS.index(0.5)] == pytest.approx(np.median(new), rel=1e-5)
    often, seldom = found.alarms
    assert (often.alpha, seldom.alpha) == (0.05, 0.01)
    assert often.rate == np.mean(new > often.old_threshold)
    assert seldom.rate < often.rate
    assert 0.05 < often.lowest < often.rate < often.highest
    assert often.new_threshold == pytest.approx(np.quantile(new, 0.95), abs=0.1)
    assert found.auroc == pytest.approx(stats.norm.cdf(1 / np.sqrt(2)), abs=0.03)
    assert found.p_value < 1e-9


def test_the_old_images_are_like_themselves() -> None:
    old = normal(999, 0)
    found = compare_scores(old, old)
    assert (found.distance, found.p_value, found.auroc) == (0.0, 1.0, 0.5)
    assert found.alarms[0].rate <= 0.05
    assert found.alarms[0].old_threshold == found.alarms[0].new_threshold
