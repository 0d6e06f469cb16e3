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
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from training.data.draws import Draws
from training.networks.wide_resnet import WideResNet
from training.objectives.adversarial import AdversarialTraining
from training.objectives.trades import Trades, divergence
from training.recipe_tables.attacks import AdversarialSettings, TradesSettings

CPU = torch.device("cpu")
SIZE = 8
ATTACK = {"epsilon_255": 8.0, "steps": 3, "step_255": 4.0, "start": "uniform", "network_mode": "training"}
FORMS = [(0.0, "joint", 0.0), (0.5, "joint", 0.0), (0.5, "joint", 1.0), (0.5, "separate", 0.5)]


def adversarial(
    weight: float = 0.5, form: str = "separate", attacked: float = 0.5, views: str = "all", **attack: Any
) -> AdversarialTraining:
    table = {**ATTACK, "form": form, "rotation_weight": attacked, **attack}
    settings = AdversarialSettings(kind="adversarial", rotation_weight=weight, rotation_views=views, attack=table)
    return AdversarialTraining(settings, 3, "32-true")


def trades(weight: float = 0.5, views: str = "all", beta: float = 6.0, **attack: Any) -> Trades:
    table = {**ATTACK, "start": "gaussian", "network_mode": "evaluation", **attack}
    settings = TradesSettings(kind="trades", beta=beta, rotation_weight=weight, rotation_views=views, attack=table)
    return Trades(settings, 3, "32-true")


def random_images(count: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(60, 196, (count, 3, SIZE, SIZE), np.uint8))


def draws(count: int, step: int = 0) -> Draws:
    return Draws(0, step, count, CPU)


class Brightness:
    """Two classes by mean brightness, logits (0, 100 x (mean - 1/2)): the worst image is known in closed form."""

    slope = 100.0

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, views: Tensor) -> dict[str, Tensor]:
        self.seen.append(views.detach())
        logit = self.slope * (views.mean(dim=(1, 2, 3)) - 0.5)
        zero = torch.zeros_like(logit)
        return {"label": torch.stack([zero, logit, zero - 1e9], dim=1), "rotation": views[:, 0, :2, :2].flatten(1) * 9}


def bright_loss(mean: float, label: int) -> float:
    logit = Brightness.slope * (mean - 0.5)
    return math.log1p(math.exp(logit if label == 0 else -logit))


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
