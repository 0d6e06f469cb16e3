from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.metrics import aupr, auroc, detection, fpr_at_95_tpr

SCORES = st.lists(st.integers(-20, 20), min_size=1, max_size=30).map(lambda values: np.asarray(values, np.float32))


def array(*values: float) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def test_auroc_by_hand() -> None:
    # Pairs (normal, anomalous): of 2 x 3, four are in order, one is a tie.
    assert auroc(array(1, 3), array(2, 3, 4)) == pytest.approx((4 + 0.5) / 6)


def test_aupr_by_hand() -> None:
    # Ranked 4 out, 3 in, 2 out, 1 in: precision 1 at recall 1/2, 2/3 at recall 1.
    assert aupr(array(1, 3), array(2, 4)) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_fpr95_by_hand() -> None:
    # Twenty anomalies at 1..20: 95 % of them is nineteen, hence the threshold 2; normals 0, 1.5, 2, 30.
    assert fpr_at_95_tpr(array(0, 1.5, 2, 30), np.arange(1, 21, dtype=np.float32)) == pytest.approx(2 / 4)


def test_fpr95_with_few_anomalies_must_catch_them_all() -> None:
    assert fpr_at_95_tpr(array(0, 2, 4), array(1, 5)) == pytest.approx(2 / 3)


def test_higher_scores_for_anomalies_are_perfect_detection() -> None:
    assert detection(array(0, 1), array(2, 3)).as_dict() == {"auroc": 1.0, "aupr": 1.0, "fpr95": 0.0}
    assert auroc(array(2, 3), array(0, 1)) == 0.0


@given(SCORES, SCORES)
def test_auroc_is_the_share_of_ordered_pairs(normal: NDArray[np.float32], anomalous: NDArray[np.float32]) -> None:
    differences = anomalous[:, None] - normal[None]
    assert auroc(normal, anomalous) == pytest.approx(float(np.mean((differences > 0) + 0.5 * (differences == 0))))


@given(SCORES, SCORES)
def test_fpr95_is_that_of_the_best_allowed_threshold(
    normal: NDArray[np.float32], anomalous: NDArray[np.float32]
) -> None:
    allowed = [t for t in np.concatenate([normal, anomalous]) if np.mean(anomalous >= t) >= 0.95]
    assert fpr_at_95_tpr(normal, anomalous) == pytest.approx(min(float(np.mean(normal >= t)) for t in allowed))


@given(SCORES, SCORES)
def test_negating_all_scores_mirrors_auroc(normal: NDArray[np.float32], anomalous: NDArray[np.float32]) -> None:
    assert auroc(-normal, -anomalous) == pytest.approx(1 - auroc(normal, anomalous))


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="1 of 3 scores are not finite"):
        detection(array(0, float("nan")), array(1))


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(ValueError, match="0 normal and 1 others"):
        detection(array(), array(1))
