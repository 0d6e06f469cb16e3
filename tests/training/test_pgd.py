"""PGD against closed forms, a plain numpy version, and the ball it may not leave."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn
from torch.nn import functional

from training.attacks.pgd import pgd, project

SHAPE = (2, 3, 4, 4)
PIXELS = arrays(np.float32, SHAPE, elements=st.floats(0, 1, width=32))
NOISE = arrays(np.float32, SHAPE, elements=st.floats(-1, 1, width=32))
WEIGHTS = arrays(np.float32, SHAPE[1:], elements=st.floats(-3, 3, width=32))


def linear_loss(weights: Tensor) -> object:
    return lambda images: (images * weights).sum()


@given(PIXELS, NOISE, WEIGHTS, st.floats(1, 64), st.floats(0.3, 64), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_it_stays_in_the_ball_around_the_clean_image_and_in_the_pixel_range(
    pixels: np.ndarray, noise: np.ndarray, weights: np.ndarray, radius: float, step: float, steps: int
) -> None:
    clean, epsilon = torch.from_numpy(pixels), radius / 255
    before = clean.clone()
    attacked = pgd(
        linear_loss(torch.from_numpy(weights)),
        clean,
        torch.from_numpy(noise) * epsilon * 3,  # a start outside the ball, too
        epsilon=epsilon,
        step=step / 255,
        steps=steps,
    )
    assert (attacked - clean).abs().max() <= epsilon + 1e-6
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    assert torch.equal(clean, before), "the clean images are not touched"
    assert not attacked.requires_grad


@given(PIXELS, NOISE, WEIGHTS, st.floats(1, 64))
@settings(max_examples=40, deadline=None)
def test_on_a_linear_loss_it_ends_at_the_known_optimum(
    pixels: np.ndarray, noise: np.ndarray, weights: np.ndarray, radius: float
) -> None:
    clean, epsilon = torch.from_numpy(pixels), radius / 255
    start = torch.from_numpy(noise) * epsilon
    attacked = pgd(linear_loss(torch.from_numpy(weights)), clean, start, epsilon=epsilon, step=epsilon / 4, steps=9)
    best = np.clip(pixels + epsilon * np.sign(weights), 0, 1)  # a corner of the ball; 8 steps cross it
    moved = np.broadcast_to(weights, SHAPE) != 0
    np.testing.assert_allclose(attacked.numpy()[moved], best[moved], atol=1e-6)


def softmax_gradient(images: np.ndarray, weights: np.ndarray, labels: np.ndarray) -> np.ndarray:
    logits = images.reshape(len(images), -1) @ weights
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(labels)), labels] -= 1
    return (p @ weights.T).reshape(images.shape)


def test_against_pgd_in_plain_numpy() -> None:
    generator = np.random.default_rng(0)
    clean = generator.random((5, 3, 4, 4))
    weights, labels = generator.normal(size=(48, 6)), generator.integers(0, 6, 5)
    epsilon, step, steps = 8 / 255, 2 / 255, 20
    noise = generator.uniform(-epsilon, epsilon, clean.shape)
    expected = np.clip(clean + noise, 0, 1)
    for _ in range(steps):
        expected = expected + step * np.sign(softmax_gradient(expected, weights, labels))
        expected = np.clip(np.clip(expected, clean - epsilon, clean + epsilon), 0, 1)

    def loss_of(images: Tensor) -> Tensor:
        logits = images.flatten(1) @ torch.from_numpy(weights)
        return functional.cross_entropy(logits, torch.from_numpy(labels), reduction="sum")

    found = pgd(loss_of, torch.from_numpy(clean), torch.from_numpy(noise), epsilon=epsilon, step=step, steps=steps)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_each_image_is_attacked_on_its_own() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 3))
    clean, labels = torch.rand(6, 3, 4, 4), torch.arange(6) % 3
    noise = (torch.rand_like(clean) * 2 - 1) * 0.03

    def attack(chosen: slice) -> Tensor:
        def loss_of(images: Tensor) -> Tensor:
            return functional.cross_entropy(network(images), labels[chosen], reduction="sum")

        return pgd(loss_of, clean[chosen], noise[chosen], epsilon=0.03, step=0.01, steps=5)

    together = attack(slice(None))
    apart = torch.cat([attack(slice(i, i + 1)) for i in range(6)])
    torch.testing.assert_close(together, apart)


def test_no_parameter_gets_a_gradient_and_an_earlier_one_is_kept() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    network[1].weight.grad = torch.full_like(network[1].weight, 7.0)
    pgd(
        lambda images: network(images).logsumexp(1).sum(),
        torch.rand(SHAPE),
        torch.zeros(SHAPE),
        epsilon=0.1,
        step=0.1,
        steps=2,
    )
    assert torch.equal(network[1].weight.grad, torch.full_like(network[1].weight, 7.0))
    assert network[1].bias.grad is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_gradient_too_small_for_half_precision_still_moves_the_image(dtype: torch.dtype) -> None:
    weights = torch.full(SHAPE[1:], 2e-8)  # float16 ends at 6e-8

    def loss_of(images: Tensor) -> Tensor:
        return (images.to(dtype) * 1).float().mul(weights).sum()

    clean = torch.full(SHAPE, 0.5)
    attacked = pgd(loss_of, clean, torch.zeros(SHAPE), epsilon=0.1, step=0.1, steps=1)
    torch.testing.assert_close(attacked, torch.full(SHAPE, 0.6))


def test_projection_is_on_the_clean_image_not_on_the_start() -> None:
    clean = torch.tensor([0.0, 0.5, 1.0])
    assert project(torch.tensor([-1.0, 0.9, 0.2]), clean, 0.1).tolist() == pytest.approx([0.0, 0.6, 0.9])


def test_it_is_that_of_a_published_library() -> None:
    """The Adversarial Robustness Toolbox's: from the clean image, the same steps end at the same pixels."""
    evasion = pytest.importorskip("art.attacks.evasion", reason="needs adversarial-robustness-toolbox, of 'dev'")
    estimators = pytest.importorskip("art.estimators.classification")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 6 * 6, 5))
    clean, labels = torch.rand(16, 3, 8, 8), torch.arange(16) % 5
    theirs = estimators.PyTorchClassifier(
        network, nn.CrossEntropyLoss(), (3, 8, 8), 5, clip_values=(0.0, 1.0), device_type="cpu"
    )
    attack = evasion.ProjectedGradientDescent(
        theirs, norm=np.inf, eps=8 / 255, eps_step=2 / 255, max_iter=10, num_random_init=0, verbose=False
    )
    expected = attack.generate(clean.numpy(), np.eye(5)[labels.numpy()])
    ours = pgd(
        lambda images: functional.cross_entropy(network(images), labels, reduction="sum"),
        clean,
        torch.zeros_like(clean),
        epsilon=8 / 255,
        step=2 / 255,
        steps=10,
    )
    assert (ours - clean).abs().max() > 7 / 255, "it moved"
    different = np.abs(ours.numpy() - expected) > 1e-5  # where a gradient is next to nothing its sign is rounding's
    assert different.mean() < 0.002
