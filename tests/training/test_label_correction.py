"""Estimates of the corruption and the corrected loss, by hand, in numpy and as the log loss of scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss
from torch import Tensor, nn
from torch.nn import functional

from tests.training.patterns import image_set
from training.data.draws import Draws
from training.labels.correction import (
    CorrectedCrossEntropy,
    class_probabilities,
    forward_estimate,
    gold_estimate,
    with_trust,
)
from training.labels.corruption import corruption_matrix
from training.objectives.classification import Classification
from training.recipe import ClassificationSettings

CPU = torch.device("cpu")


def targets(labels: list[int], trusted: list[bool]) -> Tensor:
    return torch.from_numpy(with_trust(np.array(labels), np.array(trusted)))


def test_the_loss_by_hand() -> None:
    matrix = np.array([[0.9, 0.1], [0.4, 0.6]])
    p = torch.tensor([[0.8, 0.2], [0.8, 0.2], [0.5, 0.5]])
    loss = CorrectedCrossEntropy(matrix)(p.log(), targets([1, 1, 0], [True, False, False]))
    given_1 = 0.8 * 0.1 + 0.2 * 0.6  # how probable the network finds it that label 1 is given to the second image
    given_0 = 0.5 * 0.9 + 0.5 * 0.4
    assert loss.item() == pytest.approx(-(math.log(0.2) + math.log(given_1) + math.log(given_0)) / 3)


@given(st.integers(0, 2**32), st.integers(2, 12), st.floats(0, 1))
def test_the_untrusted_term_is_the_log_loss_of_the_corrupted_probabilities(
    seed: int, classes: int, strength: float
) -> None:
    generator = np.random.default_rng(seed)
    logits, labels = generator.normal(0, 3, (9, classes)), generator.integers(classes, size=9)
    matrix = 0.9 * corruption_matrix(classes, strength) + 0.1 * generator.dirichlet(np.ones(classes), classes)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    given_p = p / p.sum(axis=1, keepdims=True) @ matrix
    expected = log_loss(labels, given_p / given_p.sum(axis=1, keepdims=True), labels=range(classes))
    loss = CorrectedCrossEntropy(matrix)(torch.from_numpy(logits), targets(labels.tolist(), [False] * 9))
    assert loss.item() == pytest.approx(expected, rel=1e-4)


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.integers(0, 2**32))
def test_without_corruption_it_is_the_cross_entropy_whoever_is_trusted(trusted: list[bool], seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits = torch.from_numpy(generator.normal(size=(len(trusted), 5))).float().requires_grad_()
    labels = generator.integers(5, size=len(trusted)).tolist()
    corrected = CorrectedCrossEntropy(np.eye(5))(logits, targets(labels, trusted))
    plain = functional.cross_entropy(logits, torch.tensor(labels))
    assert corrected.item() == pytest.approx(plain.item(), rel=1e-5)
    (corrected_gradient,), (gradient,) = (torch.autograd.grad(loss, logits) for loss in (corrected, plain))
    torch.testing.assert_close(corrected_gradient, gradient)


def test_a_matrix_of_no_information_gives_no_gradient_but_to_trusted_labels() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = CorrectedCrossEntropy(corruption_matrix(3, 1.0))(logits, targets([0, 1, 2, 0], [False, False, False, True]))
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient[:3], torch.zeros(3, 3), atol=1e-6, rtol=0)
    assert gradient[3].abs().max() > 0.05


def test_confident_logits_and_zeros_in_the_matrix_stay_finite() -> None:
    logits = torch.tensor([[100.0, -100.0], [-100.0, 100.0]]).requires_grad_()
    loss = CorrectedCrossEntropy(np.eye(2))(logits, targets([1, 0], [False, True]))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert math.isfinite(loss.item())
    assert torch.isfinite(gradient).all()


def test_the_gold_estimate_by_hand() -> None:
    probabilities = np.array([[0.6, 0.4], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7]])
    estimate = gold_estimate(probabilities, np.array([0, 1, 0, 1]))
    np.testing.assert_allclose(estimate, [[0.35, 0.65], [0.25, 0.75]])


def test_a_network_that_learned_the_given_labels_gives_the_matrix() -> None:
    truth = np.repeat(np.arange(4), 5)
    matrix = corruption_matrix(4, 0.6)
    np.testing.assert_allclose(gold_estimate(matrix[truth], truth), matrix)
    np.testing.assert_allclose(forward_estimate(matrix[truth]), matrix)


def test_the_forward_estimate_takes_the_image_at_the_97th_percentile() -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(5), 1000)
    estimate = forward_estimate(probabilities)
    np.testing.assert_allclose(np.diagonal(estimate), np.percentile(probabilities, 97, axis=0, method="lower"))
    for label, row in enumerate(estimate):
        [place] = np.flatnonzero((probabilities == row).all(axis=1))
        above = int((probabilities[:, label] > probabilities[place, label]).sum())
        assert above == 30


class Brightness(nn.Module):
    """Logits from the mean of the red channel alone; knows whether it is training."""

    def forward(self, views: Tensor) -> dict[str, Tensor]:
        assert not self.training
        red = views[:, 0].mean(dim=(1, 2))
        return {"label": torch.stack([red, -red], dim=1)}


def test_probabilities_are_of_upright_images_in_their_order() -> None:
    images = image_set(per_class=100, size=8)
    found = class_probabilities(Brightness().train(), images, CPU)
    red = images.pixels.read(0, 300)[..., 0].mean(axis=(1, 2)) / 255
    np.testing.assert_allclose(found[:, 0], 1 / (1 + np.exp(-2 * red)), rtol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_the_corrected_loss_takes_the_place_of_the_label_loss_beside_rotations() -> None:
    matrix = corruption_matrix(3, 0.5)
    settings = ClassificationSettings(kind="classification", rotation_weight=0.5, rotation_views="all")
    corrected = CorrectedCrossEntropy(matrix)
    objective = Classification(settings, 3, label_loss=corrected)
    images = torch.from_numpy(image_set(per_class=2, size=8).pixels.read(0, 6).transpose(0, 3, 1, 2).copy())
    seen: list[Tensor] = []

    def network(views: Tensor) -> dict[str, Tensor]:
        logits = views.flatten(1)[:, :7]
        seen.append(logits)
        return {"label": logits[:, :3], "rotation": logits[:, 3:]}

    given_targets = targets([0, 1, 2, 0, 1, 2], [True, False] * 3)
    losses = objective.losses(network, images, given_targets, Draws(0, 0, 6, CPU))
    expected = corrected(seen[0][::4, :3], given_targets)
    assert losses["label"].item() == pytest.approx(expected.item())
    assert losses["loss"].item() == pytest.approx(expected.item() + 0.5 * losses["rotation"].item())
