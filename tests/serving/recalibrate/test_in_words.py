from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from serving.recalibrate.comparison import compare_scores
from serving.recalibrate.in_words import _SAID, comparison_report
from serving.recalibrate.verdict import Verdict


def normal(count: int, seed: int, mean: float = 0.0, spread: float = 1.0) -> NDArray[np.float32]:
    return np.sort(np.random.default_rng(seed).normal(mean, spread, count).astype(np.float32))


OLD = normal(999, 0)


def cells(report: str, first: str) -> list[str]:
    [row] = [line for line in report.splitlines() if line.startswith(f"| {first}")]
    return [cell.strip() for cell in row.strip("|").split("|")][1:]


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (normal(300, 1), "**No difference seen**"),
        (normal(20, 1, mean=0.3), "**No difference seen**"),
        (normal(300, 1, mean=0.7), "**Not the same distribution**: the new images score higher"),
        (normal(300, 1, mean=-0.7), "**Not the same distribution**: the new images score lower"),
        (normal(1000, 7, mean=0.12), "**Not the same distribution, if not by much**"),
        (
            normal(300, 1, spread=2.0),
            "**Not the same distribution, but a wider one**: more of the new images score very",
        ),
        (
            normal(300, 1, spread=0.4),
            "**Not the same distribution, but a narrower one**: fewer of the new images score",
        ),
        (normal(300, 1, mean=2.0), "**Not the same distribution, and strange to this network**"),
    ],
)
def test_the_verdict(new: NDArray[np.float32], said: str) -> None:
    report = comparison_report(compare_scores(OLD, new))
    assert said in report
    assert report.count("**") == 2
    assert "for unlike images can score alike" in report


def test_every_verdict_is_said_in_one_sentence_in_bold() -> None:
    assert set(_SAID) == set(Verdict)
    for said in _SAID.values():
        assert said.startswith("**")
        assert said.count("**") == 2
        assert said.count("{figures}") == 1


@given(
    st.integers(20, 2000),
    st.integers(20, 2000),
    st.floats(-1, 1),
    st.sampled_from([0.5, 0.9, 1.0, 1.1, 1.5, 4.0]),
    st.integers(0, 100),
)
def test_alarms_that_are_not_as_meant_are_never_passed_over(
    old_n: int, new_n: int, mean: float, spread: float, seed: int
) -> None:
    found = compare_scores(normal(old_n, seed), normal(new_n, seed + 1, mean, spread))
    said = comparison_report(found)
    if any(word in said for word in ("more than the", "fewer than the")):
        assert "No difference" not in said
        assert "not by much" not in said
        assert "may well be as many as meant" not in said


def test_where_there_is_reason_to_the_user_is_told_to_look_at_the_images() -> None:
    far = np.sort(np.concatenate([normal(380, 1), normal(20, 2, mean=6.0)]))
    assert "Look at the images that score highest" in comparison_report(compare_scores(OLD, far))
    assert "Look at" not in comparison_report(compare_scores(OLD, normal(400, 1)))


def test_what_so_few_images_could_not_have_shown_is_said() -> None:
    report = comparison_report(compare_scores(OLD, normal(20, 1)))
    assert "nine of ten comparisons would show a distance of 0.44; a smaller one may be there" in report


def test_a_p_value_that_underflows_is_not_said_to_be_zero() -> None:
    report = comparison_report(compare_scores(OLD, normal(999, 1, mean=50.0)))
    assert "p-value below 1e-300;" in report


def test_the_table_has_images_quantiles_and_thresholds() -> None:
    new = normal(50, 1, mean=1.0)
    found = compare_scores(OLD, new)
    report = comparison_report(found)
    assert cells(report, "images") == ["999", "50"]
    assert cells(report, "median") == [f"{np.median(OLD):.3f}", f"{np.median(new):.3f}"]
    assert cells(report, "alarm at alpha 0.05") == [f"{found.alarms[0].old_threshold:.3f}", f"{new[-2]:.3f}"]
    assert cells(report, "alarm at alpha 0.01") == [f"{found.alarms[1].old_threshold:.3f}", "never"]


@pytest.mark.parametrize(
    ("mean", "said"),
    [(1.0, "more than the 5 % meant"), (0.0, "which may well be the 5 % meant"), (-2.0, "fewer than the 5 % meant")],
)
def test_alarms_of_the_old_calibration_are_told_with_their_interval(mean: float, said: str) -> None:
    found = compare_scores(OLD, normal(400, 1, mean=mean))
    [line] = [line for line in comparison_report(found).splitlines() if "at alpha 0.05 (" in line]
    assert said in line
    alarms = found.alarms[0]
    assert f"{100 * alarms.rate:.1f} % of the new images" in line
    assert f"interval {100 * alarms.lowest:.1f} to {100 * alarms.highest:.1f} %" in line
