"""What the attack of a training step does to a batch: where it starts, how far it goes, and what it climbs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.attacked_objectives import SIZE, Brightness, adversarial, draws, random_images, trades

FORMS = [(0.0, "joint", 0.0), (0.5, "joint", 0.0), (0.5, "joint", 1.0), (0.5, "separate", 0.5)]


class SureOfTheWrongClass:
    """Certain that an image is of class 1 and turned by three quarters: a loss is linear, its gradient a constant.

    Label 0 loses the mean pixel x the number of pixels: a gradient of 1 everywhere. A view turned by k < 3 loses
    (pixel 3 - pixel k of its first row in red), each x its gain; one turned by 3 loses nothing.
    """

    gains = torch.tensor([6.0, 12.0, 6.0, 2.0])

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, views: Tensor) -> dict[str, Tensor]:
        self.seen.append(views.detach())
        sure = torch.tensor([0.0, 0.0, 0.0, 1e4])
        brightness = views.flatten(1).sum(dim=1)
        zero = torch.zeros_like(brightness)
        return {
            "label": torch.stack([zero, brightness + 1e4, zero], dim=1),
            "rotation": views[:, 0, 0, :4] * self.gains + sure,
        }

    def rotation_gradient(self, turns: int) -> Tensor:
        """Return that of a view turned by ``turns``, [3, size, size], in the view's own frame."""
        gradient = torch.zeros(3, SIZE, SIZE)
        if turns < 3:
            gradient[0, 0, turns] = -self.gains[turns]
            gradient[0, 0, 3] = self.gains[3]
        return gradient


def start_of(clean: Tensor, copies: int = 1) -> Tensor:
    """Return the start of PGD training [N * copies, ...]: uniform in the ball, by the step's own draw, in [0, 1]."""
    noise = draws(len(clean) // copies).uniform(copies, *clean.shape[1:]).reshape(clean.shape)
    return (clean + noise * 8 / 255).clamp(0, 1)


def test_trades_attack_starts_from_normal_noise_of_a_thousandth() -> None:
    images, network = random_images(4), Brightness()
    trades(0.0).losses(network, images, torch.tensor([0, 1, 1, 0]), draws(4))
    clean, start = network.seen[:2]
    torch.testing.assert_close(clean, images.float() / 255)
    noise = draws(4).normal(1, 3, SIZE, SIZE).reshape(clean.shape)
    torch.testing.assert_close(start - clean, 0.001 * noise, atol=1e-7, rtol=1e-3)
    assert (start - clean).std().item() == pytest.approx(0.001, rel=0.1)


@pytest.mark.parametrize(("weight", "form", "attacked"), FORMS)
def test_training_attack_starts_uniform_in_the_ball(weight: float, form: str, attacked: float) -> None:
    images, network = random_images(4), Brightness()
    images[:, :, 0], images[:, :, 1] = 0, 255  # there the ball reaches beyond the pixels' range
    adversarial(weight, form, attacked).losses(network, images, torch.tensor([0, 1, 1, 0]), draws(4))
    turns = (0, 0, 1, 2, 3) if form == "separate" else (0,)
    clean = torch.stack([torch.rot90(images, k, dims=(2, 3)) for k in turns], dim=1).flatten(0, 1).float() / 255
    start = start_of(clean, len(turns))
    first = network.seen[0]
    upright = first.reshape(4, -1, 3, SIZE, SIZE)[:, 0] if form == "joint" else first
    torch.testing.assert_close(upright, start)
    inside = (upright - clean)[(clean > 0.1) & (clean < 0.9)] * 255 / 8
    assert inside.min() < -0.95
    assert inside.max() > 0.95
    assert inside.std().item() == pytest.approx(1 / math.sqrt(3), rel=0.1)


def test_separate_rotated_copies_go_to_the_corner_that_the_rotation_head_loses_most_at() -> None:
    """Each copy on its own: the upright one by the label alone, a rotated one by its own rotation alone."""
    network, images = SureOfTheWrongClass(), random_images(2)
    adversarial(0.5, "separate", 0.5, steps=5).losses(network, images, torch.tensor([0, 0]), draws(2))
    turned = [torch.rot90(images, k, dims=(2, 3)).float() / 255 for k in (0, 0, 1, 2, 3)]
    clean = torch.stack(turned, dim=1)
    start = start_of(clean.flatten(0, 1), 5).reshape(clean.shape)
    zero = torch.zeros(3, SIZE, SIZE)
    gradient = torch.stack([zero + 1, *(network.rotation_gradient(k) for k in range(4))])
    expected = torch.where(gradient == 0, start, clean + 8 / 255 * gradient.sign())
    torch.testing.assert_close(network.seen[-1].reshape(clean.shape), expected)


@pytest.mark.parametrize(("attacked", "against"), [(0.0, 0), (0.5, 1), (1.0, 3)])
def test_joint_attack_weighs_the_mean_rotation_loss_against_the_label(attacked: float, against: int) -> None:
    """Where the two gradients are opposed the weight decides: the label's is 1, the rotations' weight x gain / 4."""
    network, images = SureOfTheWrongClass(), random_images(2)
    adversarial(0.5, "joint", attacked, steps=5).losses(network, images, torch.tensor([0, 0]), draws(2))
    clean = images.float() / 255
    rotations = sum(torch.rot90(network.rotation_gradient(k), -k, dims=(1, 2)) for k in range(4)) / 4
    gradient = 1 + attacked * rotations
    assert (gradient < 0).sum() == against, "each weight has a corner of its own"
    shown = network.seen[-1].reshape(2, 4, 3, SIZE, SIZE)
    torch.testing.assert_close(shown[:, 0], clean + 8 / 255 * gradient.sign())


@pytest.mark.parametrize("views", ["all", "one"])
@pytest.mark.parametrize(("weight", "form", "attacked"), FORMS)
def test_the_network_sees_attacked_views_within_the_ball_of_clean_ones(
    weight: float, form: str, attacked: float, views: str
) -> None:
    objective, network, images = adversarial(weight, form, attacked, views), Brightness(), random_images(4)
    losses = objective.losses(network, images, torch.tensor([0, 1, 1, 0]), draws(4))
    assert sum(len(seen) for seen in network.seen) == 4 * objective.views_per_image
    shown = network.seen[-1].reshape(4, -1, 3, SIZE, SIZE)
    turned = [torch.rot90(images, k, dims=(2, 3)).float() / 255 for k in range(4)]
    assert (shown[:, 0] - turned[0]).abs().amax() <= 8 / 255 + 1e-6
    assert (shown[:, 0] - turned[0]).abs().amax() > 4 / 255
    if weight == 0:
        assert shown.shape[1] == 1
        return
    for image in range(4):
        for place in range(1, shown.shape[1]):
            gaps = [(shown[image, place] - turned[k][image]).abs().amax().item() for k in range(4)]
            assert min(gaps) <= 8 / 255 + 1e-6, "a view is a rotation of its own image, attacked"
            if form == "joint":
                turn = int(np.argmin(gaps))
                torch.testing.assert_close(shown[image, place], torch.rot90(shown[image, 0], turn, dims=(1, 2)))
    loss = losses["label"] + weight * losses["rotation"]
    assert losses["loss"].item() == pytest.approx(loss.item())


def test_separate_copies_all_four_rotations_and_one_upright() -> None:
    network, images = Brightness(), random_images(2)
    adversarial(0.5, "separate", 0.5).losses(network, images, torch.tensor([0, 1]), draws(2))
    shown = network.seen[-1].reshape(2, 5, 3, SIZE, SIZE)
    for place, turns in enumerate((0, 0, 1, 2, 3)):
        gap = (shown[:, place] - torch.rot90(images, turns, dims=(2, 3)).float() / 255).abs().amax()
        assert gap <= 8 / 255 + 1e-6
