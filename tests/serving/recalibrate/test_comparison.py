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
    distance_seen,
    exceedance_p_value,
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


@pytest.mark.parametrize(("n", "m"), [(20, 20), (99, 99), (4909, 150)])
@pytest.mark.parametrize("shape", ["shift", "jump"])
def test_nine_of_ten_tests_see_the_distance_that_is_told(n: int, m: int, shape: str) -> None:
    """Two normal distributions shifted, and the worst case: one jump of the distribution functions at the median."""
    distance = distance_seen(n, m)
    random = np.random.default_rng(0)

    def draw(count: int, half: float) -> NDArray[np.floating]:
        if shape == "jump":
            return np.sort((random.random(count) > 0.5 + half).astype(np.float64))
        return np.sort(random.normal(-stats.norm.ppf(0.5 + half), 1, count))

    seen = [kolmogorov_smirnov(draw(n, distance / 2), draw(m, -distance / 2))[1] < 0.05 for _ in range(500)]
    assert np.mean(seen) > 0.9 - 4 * np.sqrt(0.1 * 0.9 / 500)
    assert distance < 1.5 * 1.36 * np.sqrt(1 / n + 1 / m)


@pytest.mark.parametrize(("n", "m", "old_exceeding"), [(20, 20, 0), (99, 50, 4), (4909, 102, 244), (500, 3000, 499)])
def test_the_p_value_of_a_tail_is_that_of_scipys_beta_binomial(n: int, m: int, old_exceeding: int) -> None:
    distribution = stats.betabinom(m, old_exceeding + 1, n - old_exceeding)
    for count in {0, 1, m // 20, m // 2, m}:
        expected = min(1, 2 * min(distribution.cdf(count), distribution.sf(count - 1)))
        assert exceedance_p_value(count, m, old_exceeding, n) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_equal_scores_make_no_tail() -> None:
    """No new score is above the threshold, and by counts alone that would be hardly chance."""
    assert exceedance_p_value(0, 10_000, 0, 20) < 0.005
    found = compare_scores(np.zeros(20, np.float32), np.zeros(10_000, np.float32))
    assert found.alarms[0].rate == 0
    assert found.alarms[0].p_value == found.low_end.p_value == 1


def test_alarms_of_alike_images_differ_as_seldom_as_the_p_value_says_and_not_as_the_interval() -> None:
    """Of 300 pairs of one distribution; with a small old calibration most intervals exclude alpha."""
    often = [compare_scores(normal(99, 2 * seed), normal(2000, 2 * seed + 1)).alarms[0] for seed in range(300)]
    assert np.mean([alarms.direction != 0 for alarms in often]) > 0.4
    for level in (0.05, 0.2):
        share = np.mean([alarms.p_value <= level for alarms in often])
        assert share == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / 300))


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


def test_the_low_end_is_the_high_end_of_the_scores_with_their_signs_turned() -> None:
    old, new = normal(999, 0), normal(400, 1, mean=-1.0)
    found = compare_scores(old, new)
    assert found.low_end == compare_scores(-old[::-1], -new[::-1]).alarms[0]
    assert (found.low_end.direction, found.alarms[0].direction) == (1, -1)
    assert found.low_end.rate == np.mean(new < old[49])  # the 50th of 999, as the alarm is above the 50th highest
