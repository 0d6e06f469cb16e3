from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from training.networks import WideResNet
from training.recipe_files import load_recipe
from training.scorer import ClassifierScorer, TransformationScorer, build_scorer, view_grid
from training.scores import kl_uniform, rotation_loss
from training.views import ViewGrid

SIZE = 8


class CornerNetwork(nn.Module):
    """Tells rotation and shift from the brightest pixel of an image: a network that is right by construction."""

    def __init__(self, grid: ViewGrid, image: Tensor, sharpness: float) -> None:
        super().__init__()
        self.heads = grid.heads
        self.known = grid.all_views(image)[0]
        self.labels = grid.labels()
        self.sharpness = sharpness
        self.seen = 0

    def forward(self, views: Tensor) -> dict[str, Tensor]:
        self.seen = len(views)
        distances = (views[:, None] - self.known[None]).abs().flatten(2).sum(dim=2)
        truth = self.labels[distances.argmin(dim=1)]
        return {
            head: self.sharpness * nn.functional.one_hot(truth[:, column], classes).to(torch.float32)
            for column, (head, classes) in enumerate(self.heads.items())
        }


def random_images(count: int, size: int = SIZE, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)


def random_network(heads: dict[str, int]) -> nn.Module:
    torch.manual_seed(0)
    return WideResNet(10, 1, heads).eval()


@pytest.mark.parametrize("order", ["rotate_translate", "translate_rotate"])
def test_views_and_their_labels_go_together(order: str) -> None:
    grid = ViewGrid((0, 1, 2, 3), (0, 2, -2), (0, 2, -2), order)
    images = random_images(1)
    network = CornerNetwork(grid, images.permute(0, 3, 1, 2) / 255, sharpness=50.0)
    outputs = TransformationScorer(network, grid)(images)
    assert network.seen == 36
    torch.testing.assert_close(outputs["view_probabilities"], torch.ones(1, 4, 3, 3, 3))
    assert outputs["anomaly_score"].item() == pytest.approx(-108)


def test_labels_of_the_other_order_are_wrong_for_two_thirds_of_the_views() -> None:
    text = ViewGrid((0, 1, 2, 3), (0, 2, -2), (0, 2, -2), "rotate_translate")
    released = ViewGrid((0, 1, 2, 3), (0, 2, -2), (0, 2, -2), "translate_rotate")
    images = random_images(1)
    network = CornerNetwork(text, images.permute(0, 3, 1, 2) / 255, sharpness=50.0)
    right = TransformationScorer(network, released)(images)["view_probabilities"]
    assert int(right.reshape(36, 3).round().prod(dim=1).sum()) == 12


def test_each_view_stands_at_its_place_in_the_grid() -> None:
    grid = ViewGrid((0, 1, 2, 3), (0, 2, -2), (0, 2, -2))
    images = random_images(1)

    class OneView(nn.Module):
        def forward(self, views: Tensor) -> dict[str, Tensor]:
            pixels = images.permute(0, 3, 1, 2).to(torch.float32) / 255
            wanted = grid.transform(pixels, 3, -2, 2)  # rotation index 3, vertical index 2, horizontal index 1
            found = (views == wanted).flatten(1).all(dim=1).to(torch.float32)
            return {name: 50 * found[:, None] * torch.eye(4)[3, :count] for name, count in grid.heads.items()}

    rotation = TransformationScorer(OneView(), grid)(images)["view_probabilities"][0, ..., 0]
    assert rotation[3, 2, 1].item() == pytest.approx(1)
    assert int((rotation > 0.5).sum()) == 1


def test_a_rotation_only_grid_is_rotnet() -> None:
    grid = ViewGrid()
    outputs = TransformationScorer(random_network(grid.heads), grid)(random_images(3))
    assert outputs["view_probabilities"].shape == (3, 4, 1)
    torch.testing.assert_close(outputs["anomaly_score"], -outputs["view_probabilities"].flatten(1).sum(1))


def test_classifier_outputs_have_the_contracts_names_shapes_and_signs() -> None:
    scorer = ClassifierScorer(random_network({"label": 5, "rotation": 4}), ViewGrid(), "kl_rotation")
    with torch.inference_mode():
        outputs = scorer(random_images(3))
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "probabilities": (3, 5),
        "kl_uniform": (3,),
        "rotation_loss": (3,),
        "view_probabilities": (3, 4),
        "anomaly_score": (3,),
    }
    assert all(value.dtype == torch.float32 for value in outputs.values())
    torch.testing.assert_close(outputs["probabilities"].sum(1), torch.ones(3))
    torch.testing.assert_close(outputs["anomaly_score"], -outputs["kl_uniform"] + outputs["rotation_loss"])
    torch.testing.assert_close(outputs["rotation_loss"], -outputs["view_probabilities"].log().mean(dim=1))


def test_the_classifier_sees_the_upright_view() -> None:
    network = random_network({"label": 5, "rotation": 4})
    images = random_images(2)
    with torch.inference_mode():
        upright = network(images.permute(0, 3, 1, 2) / 255)["label"]
        outputs = ClassifierScorer(network, ViewGrid(), "kl_rotation")(images)
    torch.testing.assert_close(outputs["probabilities"], upright.softmax(1))
    torch.testing.assert_close(outputs["kl_uniform"], kl_uniform(upright))


def test_rotation_loss_is_of_the_four_true_rotations() -> None:
    network = random_network({"label": 5, "rotation": 4})
    images = random_images(2)
    pixels = images.permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        by_hand = torch.stack([network(torch.rot90(pixels, k, (2, 3)))["rotation"] for k in range(4)], dim=1)
        outputs = ClassifierScorer(network, ViewGrid(), "kl_rotation")(images)
    torch.testing.assert_close(outputs["rotation_loss"], rotation_loss(by_hand))


@pytest.mark.parametrize("formula", ["kl", "msp"])
def test_without_a_rotation_head_one_view_suffices(formula: str) -> None:
    scorer = ClassifierScorer(random_network({"label": 5}), None, "kl" if formula == "kl" else "msp")
    outputs = scorer(random_images(2))
    expected = -outputs["kl_uniform"] if formula == "kl" else -outputs["probabilities"].max(dim=1).values
    torch.testing.assert_close(outputs["anomaly_score"], expected)
    assert set(outputs) == {"probabilities", "kl_uniform", "anomaly_score"}
    assert scorer.views == 1


def test_a_uniform_network_scores_log_four() -> None:
    class Uniform(nn.Module):
        def forward(self, views: Tensor) -> dict[str, Tensor]:
            return {"label": torch.zeros(len(views), 7), "rotation": torch.zeros(len(views), 4)}

    score = ClassifierScorer(Uniform(), ViewGrid(), "kl_rotation")(random_images(1))["anomaly_score"]
    assert score.item() == pytest.approx(math.log(4))


def test_kl_rotation_without_a_rotation_head_is_refused() -> None:
    with pytest.raises(ValueError, match="rotation head"):
        ClassifierScorer(random_network({"label": 5}), None, "kl_rotation")


def test_a_classifier_with_translations_is_refused() -> None:
    with pytest.raises(ValueError, match="rotations alone"):
        ClassifierScorer(random_network({"label": 5}), ViewGrid.transformations(32), "kl_rotation")


@given(st.permutations(range(4)))
@settings(max_examples=10, deadline=None)
def test_an_images_score_does_not_depend_on_its_neighbours(order: list[int]) -> None:
    grid = ViewGrid.transformations(SIZE)
    scorer = TransformationScorer(random_network(grid.heads), grid)
    images = random_images(4)
    with torch.inference_mode():
        scores, permuted = scorer(images)["anomaly_score"], scorer(images[order])["anomaly_score"]
    torch.testing.assert_close(permuted, scores[order], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("recipe", "views"), [("cifar10-rotations", 4), ("cifar10-baseline", 1), ("cifar10-transformations", 36)]
)
def test_the_recipe_decides_the_views(recipe: str, views: int) -> None:
    resolved = load_recipe(recipe, "smoke")
    grid = view_grid(resolved)
    heads = {"label": 10} if resolved.evaluation.score != "transformation" else {}
    scorer = build_scorer(random_network(heads | (grid.heads if grid else {})).train(), resolved)
    assert scorer.views == views
    assert not scorer.network.training
