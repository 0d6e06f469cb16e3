"""Losses against numbers worked out by hand and in numpy, for networks simple enough to follow."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.draws import Draws
from training.data.image_set import DataError
from training.objectives.build import build_objective
from training.objectives.classification import Classification
from training.objectives.transformations import TransformationPrediction
from training.recipe import ClassificationSettings, TransformationSettings
from training.recipe_files import load_recipe

CPU = torch.device("cpu")
SIZE = 8
TRANSLATIONS = [(v, h) for v in (0, 2, -2) for h in (0, 2, -2)]


def classification(weight: float, views: str) -> ClassificationSettings:
    return ClassificationSettings(kind="classification", rotation_weight=weight, rotation_views=views)


def transformations(order: str = "rotate_translate", translations: int = 1) -> TransformationSettings:
    return TransformationSettings(kind="transformations", order=order, translations_per_image=translations)


def random_images(count: int, seed: int = 0) -> Tensor:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3, SIZE, SIZE), np.uint8)
    return torch.from_numpy(pixels)


class Linear:
    """A network of one matrix a head over the pixels, and a record of what it was shown."""

    def __init__(self, heads: dict[str, int]) -> None:
        generator = np.random.default_rng(1)
        self.weights = {name: generator.normal(size=(3 * SIZE * SIZE, count)) for name, count in heads.items()}
        self.seen: list[Tensor] = []

    def __call__(self, views: Tensor) -> dict[str, Tensor]:
        self.seen.append(views)
        flat = views.reshape(len(views), -1).double()
        return {name: flat @ torch.from_numpy(matrix) for name, matrix in self.weights.items()}

    def cross_entropy(self, head: str, view: NDArray[np.uint8], truth: int) -> float:
        """-log softmax of the true class for one view, uint8 [3, size, size], in numpy."""
        logits = (view.reshape(-1) / 255.0).astype(np.float32).astype(np.float64) @ self.weights[head]
        return float(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[truth])


def turned(image: Tensor, turns: int) -> NDArray[np.uint8]:
    return np.rot90(image.numpy(), turns, axes=(1, 2))


def moved(image: NDArray[np.uint8], vertical: int, horizontal: int) -> NDArray[np.uint8]:
    padded = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode="reflect")
    return padded[:, 2 - vertical : 2 - vertical + SIZE, 2 - horizontal : 2 - horizontal + SIZE]


def test_a_network_that_knows_nothing_has_the_loss_of_a_guess() -> None:
    def ignorant(views: Tensor) -> dict[str, Tensor]:
        return {name: torch.zeros(len(views), count) for name, count in objective.heads.items()}

    objective: Classification | TransformationPrediction = Classification(classification(0.5, "all"), classes=10)
    losses = objective.losses(ignorant, random_images(6), torch.arange(6), Draws(0, 0, 6, CPU))
    assert losses["label"].item() == pytest.approx(math.log(10))
    assert losses["rotation"].item() == pytest.approx(math.log(4))
    assert losses["loss"].item() == pytest.approx(math.log(10) + 0.5 * math.log(4))
    objective = TransformationPrediction(transformations(), SIZE)
    losses = objective.losses(ignorant, random_images(6), torch.arange(6), Draws(0, 0, 6, CPU))
    assert losses["loss"].item() == pytest.approx((math.log(4) + 2 * math.log(3)) / 3)


def test_all_rotations_against_numpy() -> None:
    objective = Classification(classification(0.7, "all"), classes=5)
    network, images, labels = Linear(objective.heads), random_images(3), torch.tensor([4, 0, 2])
    losses = objective.losses(network, images, labels, Draws(0, 0, 3, CPU))
    label = np.mean(
        [network.cross_entropy("label", image.numpy(), int(y)) for image, y in zip(images, labels, strict=True)]
    )
    rotation = np.mean([network.cross_entropy("rotation", turned(image, k), k) for image in images for k in range(4)])
    assert losses["label"].item() == pytest.approx(label)
    assert losses["rotation"].item() == pytest.approx(rotation)
    assert losses["loss"].item() == pytest.approx(label + 0.7 * rotation)
    assert objective.heads == {"label": 5, "rotation": 4}
    assert objective.views_per_image == 4


def test_the_network_sees_float_views_in_0_to_1_in_one_batch() -> None:
    objective = Classification(classification(1.0, "all"), classes=5)
    network, images = Linear(objective.heads), random_images(3)
    objective.losses(network, images, torch.zeros(3, dtype=torch.int64), Draws(0, 0, 3, CPU))
    (views,) = network.seen
    assert (views.dtype, views.shape) == (torch.float32, (12, 3, SIZE, SIZE))
    for image in range(3):
        for turns in range(4):
            expected = turned(images[image], turns).astype(np.float32) / 255
            np.testing.assert_allclose(views[4 * image + turns].numpy(), expected, rtol=1e-6)


def test_without_rotations_it_is_plain_cross_entropy() -> None:
    objective = Classification(classification(0.0, "all"), classes=5)
    network, images, labels = Linear(objective.heads), random_images(3), torch.tensor([4, 0, 2])
    losses = objective.losses(network, images, labels, Draws(0, 0, 3, CPU))
    expected = np.mean(
        [network.cross_entropy("label", image.numpy(), int(y)) for image, y in zip(images, labels, strict=True)]
    )
    assert losses["loss"].item() == pytest.approx(expected)
    assert objective.heads == {"label": 5}
    assert objective.views_per_image == 1
    assert len(network.seen[0]) == 3


def test_the_upright_view_and_one_other_estimate_the_mean_over_all_without_bias() -> None:
    cheap, full = (Classification(classification(1.0, views), classes=5) for views in ("upright_and_one", "all"))
    network, image, label = Linear(full.heads), random_images(1), torch.tensor([3])
    every = full.losses(network, image, label, Draws(0, 0, 1, CPU))
    by_rotation: dict[bytes, float] = {}
    for step in range(60):
        losses = cheap.losses(network, image, label, Draws(0, step, 1, CPU))
        assert losses["label"].item() == pytest.approx(every["label"].item())
        upright, other = network.seen[-1]
        np.testing.assert_allclose(upright.numpy(), image[0].numpy() / np.float32(255), rtol=1e-6)
        by_rotation[other.numpy().tobytes()] = losses["rotation"].item()
    assert len(by_rotation) == 3, "each of the other rotations comes up"
    assert np.mean(list(by_rotation.values())) == pytest.approx(every["rotation"].item())
    assert cheap.views_per_image == 2


def test_each_image_draws_its_own_other_rotation_evenly() -> None:
    objective = Classification(classification(1.0, "upright_and_one"), classes=5)
    network = Linear(objective.heads)
    images = random_images(1).expand(3000, -1, -1, -1)
    objective.losses(network, images, torch.zeros(3000, dtype=torch.int64), Draws(0, 0, 3000, CPU))
    others = [view.numpy().tobytes() for view in network.seen[0][1::2]]
    counts = [others.count(kind) for kind in set(others)]
    assert len(counts) == 3
    assert min(counts) > 880
    assert max(counts) < 1120


@pytest.mark.parametrize("order", ["rotate_translate", "translate_rotate"])
@pytest.mark.parametrize("translations", [1, 2, 9])
def test_a_network_that_recognises_the_views_has_no_loss(order: str, translations: int) -> None:
    image = random_images(1)[0]
    answers: dict[bytes, tuple[int, int, int]] = {}
    for turns in range(4):
        for place, (vertical, horizontal) in enumerate(TRANSLATIONS):
            if order == "rotate_translate":
                view = moved(turned(image, turns), vertical, horizontal)
            else:
                view = np.rot90(moved(image.numpy(), vertical, horizontal), turns, axes=(1, 2))
            answers[np.ascontiguousarray(view).tobytes()] = (turns, place // 3, place % 3)
    assert len(answers) == 36

    def knowing(views: Tensor) -> dict[str, Tensor]:
        pixels = (views * 255).round().to(torch.uint8).numpy()
        told = torch.tensor([answers[np.ascontiguousarray(view).tobytes()] for view in pixels])
        shown.append(told)
        return {
            head: 50.0 * torch.nn.functional.one_hot(told[:, column], count).float()
            for column, (head, count) in enumerate(objective.heads.items())
        }

    shown: list[Tensor] = []
    objective = TransformationPrediction(transformations(order, translations), SIZE)
    assert objective.heads == {"rotation": 4, "vertical": 3, "horizontal": 3}
    assert objective.views_per_image == 4 * translations
    images = image.expand(200, -1, -1, -1)
    losses = objective.losses(knowing, images, torch.zeros(200, dtype=torch.int64), Draws(0, 0, 200, CPU))
    assert {name: value.item() for name, value in losses.items()} == pytest.approx(
        {"loss": 0.0, "rotation": 0.0, "vertical": 0.0, "horizontal": 0.0}, abs=1e-9
    )
    for views in shown[0].reshape(200, 4 * translations, 3).tolist():
        drawn = {(vertical, horizontal) for _, vertical, horizontal in views}
        assert len(drawn) == translations
        assert sorted(map(tuple, views)) == sorted((k, v, h) for k in range(4) for v, h in drawn)
    assert len({tuple(row) for row in shown[0].tolist()}) == 36, "over two hundred images every view comes up"


def test_transformations_against_numpy() -> None:
    objective = TransformationPrediction(transformations(translations=9), SIZE)
    network, images = Linear(objective.heads), random_images(2)
    losses = objective.losses(network, images, torch.zeros(2, dtype=torch.int64), Draws(0, 0, 2, CPU))
    parts: dict[str, list[float]] = {head: [] for head in objective.heads}
    for image in images:
        for turns in range(4):
            for place, (vertical, horizontal) in enumerate(TRANSLATIONS):
                view = moved(turned(image, turns), vertical, horizontal)
                for head, truth in zip(parts, (turns, place // 3, place % 3), strict=True):
                    parts[head].append(network.cross_entropy(head, view, truth))
    for head, each in parts.items():
        assert losses[head].item() == pytest.approx(np.mean(each))
    assert losses["loss"].item() == pytest.approx(np.mean([np.mean(each) for each in parts.values()]))


def test_a_batch_split_over_processes_has_the_loss_of_the_whole() -> None:
    objectives: list[Classification | TransformationPrediction] = [
        Classification(classification(1.0, "upright_and_one"), classes=5),
        TransformationPrediction(transformations(), SIZE),
    ]
    images, labels = random_images(6), torch.arange(6) % 5
    for objective in objectives:
        network = Linear(objective.heads)
        whole = objective.losses(network, images, labels, Draws(0, 3, 6, CPU))["loss"]
        halves = [
            objective.losses(network, images[rank::2], labels[rank::2], Draws(0, 3, 6, CPU, rank, 2))["loss"]
            for rank in range(2)
        ]
        assert sum(half.item() for half in halves) / 2 == pytest.approx(whole.item())


def test_the_objective_of_a_recipe() -> None:
    assert isinstance(build_objective(load_recipe("own-classifier-32"), 3), Classification)
    one_class = build_objective(load_recipe("own-one-class-224"), 1)
    assert isinstance(one_class, TransformationPrediction)
    with pytest.raises(
        DataError, match=r"a classifier needs at least two classes and 'photos' has 1; .* one-class recipe"
    ):
        build_objective(load_recipe("own-classifier-32"), 1)
