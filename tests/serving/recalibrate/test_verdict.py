from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.recalibrate.comparison import compare_scores
from serving.recalibrate.verdict import Verdict, verdict

Sample = NDArray[np.float32]


def normal(count: int, seed: int, mean: float = 0.0, spread: float = 1.0) -> Sample:
    return np.sort(np.random.default_rng(seed).normal(mean, spread, count).astype(np.float32))


def together(*samples: Sample) -> Sample:
    return np.sort(np.concatenate(samples))


def of_new(new: Sample, old_n: int = 4909) -> Verdict:
    return verdict(compare_scores(normal(old_n, 0), new))


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (normal(300, 3), Verdict.NO_DIFFERENCE),
        (normal(1000, 7, mean=0.12), Verdict.SLIGHT),
        (normal(300, 1, mean=0.7), Verdict.HIGHER),
        (normal(300, 1, mean=-0.7), Verdict.LOWER),
        (normal(300, 1, mean=2.0), Verdict.TO_STRANGE),
        (normal(500, 1, spread=4.0), Verdict.WIDER),
        (normal(100, 1, spread=4.0), Verdict.WIDER),
        (normal(500, 1, spread=0.4), Verdict.NARROWER),
        (together(normal(470, 1, 0.8, 0.3), normal(30, 2, -2.5, 0.3)), Verdict.HIGHER_FEWER_ALARMS),
        # Most lower, one of five far above: as more ordinary images do, and as anomalies.
        (together(normal(400, 1, -0.6, 0.4), normal(100, 2, 3.0, 0.5)), Verdict.LOWER_MORE_ALARMS),
        # A few anomalies among images like the old ones.
        (together(normal(475, 1), normal(25, 2, 3.0, 0.5)), Verdict.MORE_HIGH),
        (together(normal(84, 1), normal(10, 2, 3.0, 0.5)), Verdict.MORE_HIGH),
        (np.sort(np.minimum(normal(500, 1), np.float32(1.2))), Verdict.FEWER_HIGH),
    ],
)
def test_the_kind_of_difference(new: Sample, expected: Verdict) -> None:
    assert of_new(new) is expected


def test_scores_that_lie_apart_in_the_middle_alone_do_not_differ_slightly() -> None:
    middle = together(normal(400, 1)[:20], normal(180, 2, -0.8, 0.1), normal(180, 3, 0.8, 0.1), normal(400, 1)[-20:])
    found = compare_scores(normal(4909, 0), middle)
    assert [alarms.direction for alarms in found.alarms] == [0, 0]
    assert found.distance > 0.2
    assert verdict(found) is Verdict.BETWEEN


def test_the_alarms_of_a_small_calibration_say_nothing_of_the_images() -> None:
    """Most of its alarms are not as meant on images of the very same kind, and that is its chance, not theirs."""
    found = Counter(verdict(compare_scores(normal(99, 2 * seed), normal(1000, 2 * seed + 1))) for seed in range(100))
    assert found[Verdict.CHANCE] > 50
    assert found.total() - found[Verdict.CHANCE] - found[Verdict.NO_DIFFERENCE] <= 100 * (0.1 + 4 * 0.03)


def test_an_alarm_that_a_small_calibration_can_never_raise_is_not_fewer_alarms() -> None:
    """Below 99 old images none fires at alpha 0.01, whatever the new ones are."""
    for seed in range(20):
        found = compare_scores(normal(60, 2 * seed), normal(1000, 2 * seed + 1, mean=0.4))
        assert (found.alarms[1].old_threshold, found.alarms[1].direction) == (None, 0)
        assert verdict(found) not in (Verdict.FEWER_HIGH, Verdict.HIGHER_FEWER_ALARMS) or found.alarms[0].direction < 0


@pytest.mark.parametrize(("old_n", "new_n"), [(99, 99), (999, 400), (4909, 150)])
def test_alike_images_seldom_differ(old_n: int, new_n: int) -> None:
    """In a tenth of 200 comparisons at most, within four standard deviations."""
    pairs = ((normal(old_n, 2 * seed), normal(new_n, 2 * seed + 1)) for seed in range(200))
    found = Counter(verdict(compare_scores(old, new)) for old, new in pairs)
    alike = found[Verdict.NO_DIFFERENCE] + found[Verdict.CHANCE]
    assert 1 - alike / 200 <= 0.1 + 4 * np.sqrt(0.1 * 0.9 / 200)


def test_equal_scores_are_no_difference_of_the_images() -> None:
    equal = np.zeros(500, np.float32)
    assert verdict(compare_scores(equal, equal)) is Verdict.CHANCE
