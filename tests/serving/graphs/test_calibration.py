from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.graphs.calibration import model_threshold, p_value, p_values, smallest_alpha

SCORES = st.floats(-1e6, 1e6, width=32)
CALIBRATIONS = st.lists(SCORES, min_size=1, max_size=60).map(lambda values: np.sort(np.array(values, np.float32)))


@given(SCORES, CALIBRATIONS)
def test_is_the_definition(score: float, ascending: np.ndarray) -> None:
    at_least = sum(1 for other in ascending if other >= score)
    assert p_value(score, ascending) == (1 + at_least) / (len(ascending) + 1)


@given(SCORES, CALIBRATIONS)
def test_range(score: float, ascending: np.ndarray) -> None:
    assert smallest_alpha(len(ascending)) <= p_value(score, ascending) <= 1


@given(SCORES, SCORES, CALIBRATIONS)
def test_higher_scores_have_no_higher_p_values(one: float, other: float, ascending: np.ndarray) -> None:
    lower, higher = sorted([one, other])
    assert p_value(higher, ascending) <= p_value(lower, ascending)


@given(CALIBRATIONS)
def test_extremes(ascending: np.ndarray) -> None:
    assert p_value(float(ascending[0]), ascending) == 1
    assert p_value(float(np.nextafter(ascending[-1], np.float32(np.inf))), ascending) == smallest_alpha(len(ascending))


def test_ties_count_against_an_alarm() -> None:
    ascending = np.array([1, 2, 2, 2, 3], np.float32)
    assert [p_value(score, ascending) for score in (1.0, 2.0, 2.5, 3.0, 3.5)] == [1, 5 / 6, 2 / 6, 2 / 6, 1 / 6]


@given(st.lists(st.integers(0, 5), min_size=2, max_size=40), st.floats(0.01, 0.99))
def test_at_most_alpha_of_exchangeable_images_raise_an_alarm(scores: list[int], alpha: float) -> None:
    """Leave one out: each of n + 1 scores in turn against the n others is what exchangeability averages over."""
    alarms = 0
    for index, score in enumerate(scores):
        others = np.sort(np.array(scores[:index] + scores[index + 1 :], np.float32))
        alarms += p_value(float(score), others) <= alpha
    assert alarms / len(scores) <= alpha


def test_p_values_of_distinct_scores_are_uniform() -> None:
    scores = np.arange(20, dtype=np.float32)
    leave_one_out = [p_value(float(score), np.delete(scores, index)) for index, score in enumerate(scores)]
    assert sorted(leave_one_out) == pytest.approx([rank / 20 for rank in range(1, 21)])


@given(st.lists(SCORES | st.floats(width=32), max_size=10), CALIBRATIONS)
def test_many_at_once_are_each_alone(scores: list[float], ascending: np.ndarray) -> None:
    together = p_values(np.array(scores, np.float32), ascending)
    assert together.dtype == np.float64
    assert together.tolist() == [p_value(score, ascending) for score in scores]


def test_not_a_number_raises_the_alarm() -> None:
    assert p_value(float("nan"), np.arange(9, dtype=np.float32)) == 0.1


def test_a_float32_score_equals_its_calibration_score() -> None:
    score = np.float32(0.1)
    assert p_value(float(score), np.array([score], np.float32)) == 1


@pytest.mark.parametrize("models", [1, 2, 3])
def test_the_alarm_of_the_answer_stays_at_alpha(models: int) -> None:
    assert model_threshold(0.06, models) * models == pytest.approx(0.06)
