"""Losses under attack against numbers worked out by hand, and what an attack leaves behind in a network: nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import rel_entr, softmax
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tests.training.attacked_objectives import CPU, SIZE, Brightness, adversarial, draws, random_images, trades
from training.data.draws import Draws
from training.networks.wide_resnet import WideResNet
from training.objectives.trades import divergence


def bright_loss(mean: float, label: int) -> float:
    logit = Brightness.slope * (mean - 0.5)
    return math.log1p(math.exp(logit if label == 0 else -logit))


def test_adversarial_loss_is_that_of_the_worst_image_of_the_ball() -> None:
    images, labels = random_images(4), torch.tensor([0, 1, 1, 0])
    losses = adversarial(0.0, "joint", 0.0, steps=5).losses(Brightness(), images, labels, draws(4))
    means = images.double().mean(dim=(1, 2, 3)) / 255
    worst = [
        bright_loss(float(m) + (8 / 255 if y == 0 else -8 / 255), int(y)) for m, y in zip(means, labels, strict=True)
    ]
    assert losses["loss"].item() == pytest.approx(np.mean(worst), rel=1e-4)
    assert set(losses) == {"loss", "label"}


def test_trades_loss_by_hand() -> None:
    images, labels = random_images(4), torch.tensor([0, 1, 1, 0])
    losses = trades(0.0, beta=6.0, steps=5).losses(Brightness(), images, labels, draws(4))
    means = images.double().mean(dim=(1, 2, 3)) / 255
    assert losses["label"].item() == pytest.approx(
        np.mean([bright_loss(float(m), int(y)) for m, y in zip(means, labels, strict=True)]), rel=1e-4
    )
    # The divergence rises away from the image: the attack ends on that side of the ball on which its start is.
    sides = draws(4).normal(1, 3, SIZE, SIZE).mean(dim=(1, 2, 3, 4)).sign()
    assert set(sides.tolist()) == {-1, 1}, "both sides are tried"
    divergences, swapped = [], []
    for mean, side in zip(means, sides, strict=True):
        p = 1 / (1 + math.exp(-Brightness.slope * (float(mean) - 0.5)))
        q = 1 / (1 + math.exp(-Brightness.slope * (float(mean) + float(side) * 8 / 255 - 0.5)))
        divergences.append(p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
        swapped.append(q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p)))
    assert losses["kl"].item() == pytest.approx(np.mean(divergences), rel=1e-3)
    assert abs(np.mean(swapped) / np.mean(divergences) - 1) > 0.05, "KL of the attacked from the clean is another"
    assert losses["loss"].item() == pytest.approx(losses["label"].item() + 6 * losses["kl"].item(), rel=1e-5)


def test_divergence_by_hand() -> None:
    clean, attacked = torch.tensor([[math.log(3), 0.0]]), torch.tensor([[0.0, 0.0]])
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert divergence(clean, attacked).item() == pytest.approx(expected)
    assert divergence(attacked, attacked).item() == 0


@given(arrays(np.float32, (2, 3, 5), elements=st.floats(-30, 30, width=32)))
def test_divergence_is_scipys(logits: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    clean, attacked = softmax(logits.astype(np.float64), axis=-1)
    found = divergence(*torch.from_numpy(logits)).numpy()
    assert found == pytest.approx(rel_entr(clean, attacked).sum(axis=-1), rel=1e-4, abs=1e-4)


def test_one_rotation_estimates_the_mean_over_the_four_without_bias() -> None:
    attack = {"form": "joint", "attacked": 0.0, "epsilon_255": 1e-3, "step_255": 1e-3, "steps": 1}
    image, label = random_images(1), torch.tensor([1])
    every = adversarial(0.5, views="all", **attack).losses(Brightness(), image, label, draws(1))["rotation"].item()
    cheap = adversarial(0.5, views="one", **attack)
    found = {
        round(cheap.losses(Brightness(), image, label, draws(1, step))["rotation"].item(), 2) for step in range(60)
    }
    assert len(found) == 4
    assert np.mean(list(found)) == pytest.approx(every, abs=0.02)


def test_trades_rotation_head_sees_rotations_of_the_attacked_image() -> None:
    network, images = Brightness(), random_images(3)
    objective = trades(0.5)
    losses = objective.losses(network, images, torch.tensor([0, 1, 1]), draws(3))
    shown = network.seen[-1].reshape(3, 4, 3, SIZE, SIZE)
    for turns in range(4):
        torch.testing.assert_close(shown[:, turns], torch.rot90(shown[:, 0], turns, dims=(2, 3)))
    expected = losses["label"] + 6 * losses["kl"] + 0.5 * losses["rotation"]
    assert losses["loss"].item() == pytest.approx(expected.item())
    assert sum(len(seen) for seen in network.seen) == 3 * objective.views_per_image


def small_network(heads: dict[str, int]) -> WideResNet:
    torch.manual_seed(0)
    return WideResNet(10, 1, heads).train()


OBJECTIVES = {
    "plain": lambda: adversarial(0.0, "joint", 0.0),
    "separate": lambda: adversarial(0.5, "separate", 0.5, "one"),
    "joint": lambda: adversarial(0.5, "joint", 1.0, "one"),
    "trades": lambda: trades(0.0),
    "trades with rotations": lambda: trades(0.5, "one"),
}


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_an_attack_leaves_no_gradient_and_the_mode_it_found(kind: str) -> None:
    objective = OBJECTIVES[kind]()
    network = small_network(objective.heads)
    losses = objective.losses(network, random_images(4), torch.tensor([0, 1, 2, 0]), draws(4))
    assert all(parameter.grad is None for parameter in network.parameters())
    assert network.training
    losses["loss"].backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("objective", "updates"),
    [
        (adversarial(0.0, "joint", 0.0, network_mode="training"), 3 + 1),  # each attack pass and the training pass
        (adversarial(0.0, "joint", 0.0, network_mode="evaluation"), 1),
        (trades(0.0), 2),  # clean and attacked
    ],
)
def test_running_statistics_are_updated_as_the_recipe_says(objective: Any, updates: int) -> None:
    network = small_network(objective.heads)
    objective.losses(network, random_images(4), torch.tensor([0, 1, 2, 0]), draws(4))
    assert {int(m.num_batches_tracked) for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {updates}


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_two_processes_draw_what_one_draws(kind: str) -> None:
    """The objective's views are of the same noise and rotations, however the batch is split."""
    objective, images, labels = OBJECTIVES[kind](), random_images(4), torch.tensor([0, 1, 1, 0])
    whole = Brightness()
    objective.losses(whole, images, labels, draws(4))
    for rank in range(2):
        part = Brightness()
        own = Draws(0, 0, 4, CPU, rank, 2)
        objective.losses(part, images[rank::2], labels[rank::2], own)
        together = whole.seen[-1].reshape(4, -1, 3, SIZE, SIZE)[rank::2]
        torch.testing.assert_close(part.seen[-1].reshape(together.shape), together)


@pytest.fixture
def process_group() -> Any:
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    yield
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore:Grad strides do not match")  # a matter of speed
@pytest.mark.parametrize("kind", ["separate", "trades with rotations"])
def test_gradients_are_reduced_once_a_step_and_as_without_processes(kind: str, process_group: Any) -> None:
    objective = OBJECTIVES[kind]()
    alone = small_network(objective.heads)
    images, labels = random_images(4), torch.tensor([0, 1, 2, 0])
    objective.losses(alone, images, labels, draws(4))["loss"].backward()
    module = small_network(objective.heads)
    shared = DistributedDataParallel(module)
    reduced: list[int] = []

    def count(state, bucket):  # type: ignore[no-untyped-def]  # DDP checks annotations, and these are text
        reduced.append(bucket.index())
        future: Any = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    shared.register_comm_hook(None, count)
    losses = objective.losses(shared, images, labels, draws(4))
    assert reduced == [], "the attack reduces nothing"
    losses["loss"].backward()
    assert len(reduced) == len(set(reduced)) > 0
    for mine, other in zip(module.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)
