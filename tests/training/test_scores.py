from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.metrics import log_loss

from training import scores


def logits_of(*rows: list[float]) -> torch.Tensor:
    return torch.log(torch.tensor(rows))


def arrays_of_logits(*shape: int, largest: float = 30) -> st.SearchStrategy[torch.Tensor]:
    values = st.floats(-largest, largest, width=32)
    return arrays(np.float32, shape, elements=values).map(torch.from_numpy)


def test_kl_uniform_by_hand() -> None:
    # p = (1/2, 1/4, 1/4): KL = sum 1/3 ln((1/3) / p) = -ln 3 + (ln 2 + 2 ln 4) / 3 = (5/3) ln 2 - ln 3
    assert scores.kl_uniform(logits_of([0.5, 0.25, 0.25])).item() == pytest.approx(5 / 3 * math.log(2) - math.log(3))


def test_max_softmax_score_by_hand() -> None:
    assert scores.max_softmax_score(logits_of([0.2, 0.7, 0.1])).item() == pytest.approx(-0.7)


def test_rotation_loss_by_hand() -> None:
    # True rotations have probability 1/2, 1/4, 1/8, 1/8: mean of ln 2, 2 ln 2, 3 ln 2, 3 ln 2 = 9/4 ln 2
    logits = logits_of([0.5, 0.2, 0.2, 0.1], [0.5, 0.25, 0.15, 0.1], [0.3, 0.3, 0.125, 0.275], [0.5, 0.2, 0.175, 0.125])
    assert scores.rotation_loss(logits[None]).item() == pytest.approx(9 / 4 * math.log(2), rel=1e-5)


def test_transformation_score_by_hand() -> None:
    # Two views, heads of 2 and 3 classes. True: head a 0.9 and 0.4 (classes 0, 1), head b 0.5 and 0.2 (classes 2, 0).
    logits = {
        "a": logits_of([0.9, 0.1], [0.6, 0.4])[None],
        "b": logits_of([0.3, 0.2, 0.5], [0.2, 0.7, 0.1])[None],
    }
    probabilities = scores.true_probabilities(logits, torch.tensor([[0, 2], [1, 0]]))
    torch.testing.assert_close(probabilities, torch.tensor([[[0.9, 0.5], [0.4, 0.2]]]))
    assert scores.transformation_score(probabilities).item() == pytest.approx(-2.0)


def test_scores_of_extreme_logits_are_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0]])
    assert torch.isfinite(scores.kl_uniform(logits)).all()
    assert scores.rotation_loss(torch.full((1, 4, 4), -1e4) + 2e4 * torch.eye(4).flip(0)).item() == pytest.approx(2e4)


def test_half_precision_logits_give_float32_scores() -> None:
    logits = logits_of([0.2, 0.7, 0.1]).to(torch.bfloat16)
    assert scores.kl_uniform(logits).dtype == torch.float32
    assert scores.max_softmax_score(logits).dtype == torch.float32


@given(arrays_of_logits(3, 5))
def test_kl_uniform_is_scipys(logits: torch.Tensor) -> None:
    probabilities = softmax(logits.double().numpy(), axis=-1)
    expected = entropy(np.full(probabilities.shape, 1 / 5), probabilities, axis=-1)
    assert scores.kl_uniform(logits).numpy() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@given(arrays_of_logits(2, 4, 4, largest=15))  # scikit-learn cuts off probabilities below 2e-16
def test_rotation_loss_is_scikit_learns(logits: torch.Tensor) -> None:
    probabilities = softmax(logits.double().numpy(), axis=-1)
    expected = [log_loss(range(4), views, labels=range(4)) for views in probabilities]
    assert scores.rotation_loss(logits).numpy() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@given(arrays_of_logits(3, 5))
def test_ranges_of_the_classifiers_scores(logits: torch.Tensor) -> None:
    assert (scores.kl_uniform(logits) >= -1e-4).all()
    baseline = scores.max_softmax_score(logits)
    assert ((baseline >= -1 - 1e-6) & (baseline <= -1 / 5 + 1e-6)).all()


@given(arrays_of_logits(2, 4, 4))
def test_range_of_the_rotation_loss(logits: torch.Tensor) -> None:
    assert (scores.rotation_loss(logits) >= 0).all()


@given(arrays_of_logits(2, 36, 4), arrays_of_logits(2, 36, 3), arrays_of_logits(2, 36, 3))
@settings(max_examples=25)
def test_range_of_the_transformation_score(r: torch.Tensor, v: torch.Tensor, h: torch.Tensor) -> None:
    labels = torch.stack([torch.arange(36) % 4, torch.arange(36) % 3, torch.arange(36) // 12], dim=1)
    score = scores.transformation_score(scores.true_probabilities({"r": r, "v": v, "h": h}, labels))
    assert ((score >= -108 - 1e-3) & (score <= 0)).all()


@given(arrays_of_logits(3, 6), st.permutations(range(6)))
def test_the_order_of_the_classes_does_not_matter(logits: torch.Tensor, order: list[int]) -> None:
    torch.testing.assert_close(scores.kl_uniform(logits[:, order]), scores.kl_uniform(logits), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scores.max_softmax_score(logits[:, order]), scores.max_softmax_score(logits))


@given(arrays_of_logits(3, 6), st.floats(-20, 20))
def test_a_constant_added_to_the_logits_does_not_matter(logits: torch.Tensor, constant: float) -> None:
    moved = scores.kl_uniform(logits + constant)
    torch.testing.assert_close(moved, scores.kl_uniform(logits), atol=1e-3, rtol=1e-3)


@given(st.integers(2, 50), st.floats(0.1, 20))
def test_a_confident_prediction_is_less_anomalous_than_a_uniform_one(classes: int, margin: float) -> None:
    uniform = torch.zeros(1, classes)
    confident = uniform.clone()
    confident[0, 0] = margin
    assert scores.max_softmax_score(confident) < scores.max_softmax_score(uniform)
    assert -scores.kl_uniform(confident) < -scores.kl_uniform(uniform)
    assert scores.kl_uniform(uniform).item() == pytest.approx(0, abs=1e-5)


@given(st.floats(0.1, 20))
def test_recognised_transformations_are_less_anomalous_than_guessed_ones(margin: float) -> None:
    recognised, guessed = margin * torch.eye(4)[None], torch.zeros(1, 4, 4)
    assert scores.rotation_loss(recognised) < scores.rotation_loss(guessed)
    labels = torch.arange(4)[:, None]
    known, unknown = ({"rotation": logits} for logits in (recognised, guessed))
    assert scores.transformation_score(scores.true_probabilities(known, labels)) < scores.transformation_score(
        scores.true_probabilities(unknown, labels)
    )
