from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.patterns import image_set
from tests.training.runs import make_data_root, write_images
from training.data.draws import Draws
from training.data.image_set import DataError
from training.evaluation import evaluate_run
from training.exposure.build import expose
from training.exposure.outliers import load_outliers
from training.objectives.build import build_objective
from training.objectives.outlier_exposure import OutlierExposure, uniform_cross_entropy
from training.recipe import Recipe
from training.recipe_files import RecipeError, load_recipe
from training.run_folder import RunError, RunFolder
from training.training_run import train_recipe

FEW = [
    'outliers.left_out=["n01641577"]',
    'evaluation.ood=["gaussian", "tiny-imagenet"]',
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_data_root(tmp_path_factory.mktemp("data"))
    for name, brightness in (("n01641577 bullfrog", 250), ("n01443537 goldfish", 20), ("n01770393", 30)):
        write_images(root / "tiny-imagenet" / "train" / name, 6, brightness, seed=brightness)
        write_images(root / "tiny-imagenet" / "test" / name, 4, brightness, seed=brightness + 1)
    return root


def recipe(*overrides: str) -> Recipe:
    return load_recipe("cifar10-rotations-oe", "smoke", [*FEW, *overrides])


def draws(seed: int = 0, count: int = 2) -> Draws:
    return Draws(seed, 0, count, torch.device("cpu"))


def test_uniform_cross_entropy_by_hand() -> None:
    """p = (1/2, 1/4, 1/4) and (1/3, 1/3, 1/3): means of -log p are (log 2 + 2 log 4)/3 and log 3."""
    logits = torch.tensor([[math.log(2.0), 0.0, 0.0], [5.0, 5.0, 5.0]])
    first = (math.log(2) + 2 * math.log(4)) / 3
    assert uniform_cross_entropy(logits).item() == pytest.approx((first + math.log(3)) / 2)


class Fixed:
    """Three black outliers."""

    def draw(self, draws: Draws) -> Tensor:
        return torch.zeros(3, 3, 32, 32, dtype=torch.uint8)


def test_the_loss_is_the_inner_loss_and_the_weighted_outlier_loss_by_hand() -> None:
    """A network whose logits are (log 3, 0) on white and (0, 0) on black: CE = -log 3/4, outliers log 2, 0.5 of it."""
    plain = load_recipe("cifar10-baseline", "smoke")
    sizes: list[int] = []

    def network(views: Tensor) -> dict[str, Tensor]:
        sizes.append(len(views))
        first = views.mean(dim=(1, 2, 3)) * math.log(3)
        return {"label": torch.stack([first, torch.zeros_like(first)], dim=1)}

    objective = OutlierExposure(build_objective(plain, 2), Fixed(), weight=0.5, per_image=1)
    white = torch.full((2, 3, 32, 32), 255, dtype=torch.uint8)
    losses = objective.losses(network, white, torch.zeros(2, dtype=torch.int64), draws())
    assert sizes == [5]  # one batch: statistics over both
    assert losses["label"].item() == pytest.approx(-math.log(0.75))
    assert losses["outliers"].item() == pytest.approx(math.log(2))
    assert losses["loss"].item() == pytest.approx(-math.log(0.75) + 0.5 * math.log(2))
    assert objective.views_per_image == 2


def test_classes_left_out_are_not_outliers(root: Path) -> None:
    outliers = load_outliers(recipe(), root)
    assert outliers is not None
    assert len(outliers) == 12
    assert outliers.pixels.read(0, 12).mean() < 60  # the bright class is gone
    by_name = load_outliers(recipe('outliers.left_out=["n01443537 goldfish", "n01641577"]'), root)
    assert by_name is not None
    assert len(by_name) == 6


def test_what_cannot_be_left_out_is_named(root: Path) -> None:
    with pytest.raises(DataError, match="n99999999"):
        load_outliers(recipe('outliers.left_out=["n99999999"]'), root)
    with pytest.raises(DataError, match="no image"):
        load_outliers(recipe('outliers.left_out=["n01641577", "n01443537", "n01770393"]'), root)


def test_unreadable_outliers_are_left_out_when_asked(root: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(root, tmp_path / "data"))
    (changed / "tiny-imagenet" / "train" / "n01770393" / "002.png").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"002\.png: .*Remove them, or leave such .* --set data.skip_unreadable=true"):
        train_recipe(recipe(), changed, RunFolder(tmp_path / "run"))
    outliers = load_outliers(recipe("data.skip_unreadable=true"), changed)
    assert outliers is not None
    assert (len(outliers), len(outliers.skipped)) == (11, 1)


def test_outliers_are_drawn_by_the_step_alone() -> None:
    images = image_set(4)
    settings = recipe().outliers
    assert settings is not None
    two = settings.model_copy(update={"per_image": 2})
    plain = load_recipe("cifar10-rotations", "smoke")
    objectives = [expose(build_objective(plain, 3), plain, two, images, torch.device("cpu")) for _ in range(2)]
    seen: list[Tensor] = []

    def network(views: Tensor) -> dict[str, Tensor]:
        seen.append(views)
        return {"label": torch.zeros(len(views), 3), "rotation": torch.zeros(len(views), 4)}

    batch = torch.from_numpy(images.pixels.read(0, 2).transpose(0, 3, 1, 2).copy())
    labels = torch.zeros(2, dtype=torch.int64)
    for objective, seed in ((objectives[0], 1), (objectives[1], 1), (objectives[1], 2)):
        objective.losses(network, batch, labels, draws(seed))
    assert [len(views) for views in seen] == [12, 12, 12]  # four rotations and two outliers an image
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1][8:], seen[2][8:])


def test_outliers_are_for_classifiers() -> None:
    with pytest.raises(RecipeError, match="outliers"):
        load_recipe(
            "cifar10-transformations",
            "smoke",
            ["outliers.data=a", "outliers.left_out=[]", "outliers.weight=0.5", "outliers.per_image=1"],
        )


@pytest.fixture(scope="module")
def exposed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("run") / "run")
    assert train_recipe(recipe(), root, run).finished
    return run


def test_a_run_records_its_outliers_and_its_loss(exposed: RunFolder) -> None:
    record = exposed.training_record()["outliers"]
    assert (record["name"], record["split"], record["count"]) == ("tiny-imagenet", "train", 12)
    assert record["digest"].startswith("sha256:")
    assert '"outliers":' in exposed.metrics_path.read_text()


def test_a_set_trained_on_is_not_in_the_mean(exposed: RunFolder, root: Path) -> None:
    evaluation: dict[str, Any] = evaluate_run(exposed, root, device="cpu")
    assert evaluation["exposed"] == ["tiny-imagenet"]
    assert set(evaluation["ood"]) == {"gaussian", "tiny-imagenet"}
    held_out = evaluation["ood"]["gaussian"]["kl_rotation"]
    assert evaluation["ood_mean"]["kl_rotation"] == held_out
    assert np.isfinite(held_out["auroc"])


def test_a_run_does_not_go_on_with_other_outliers(exposed: RunFolder, root: Path) -> None:
    write_images(root / "tiny-imagenet" / "train" / "n01784675", 2, 90, seed=1)
    with pytest.raises(RunError, match="not those"):
        train_recipe(recipe(), root, exposed, resume=True)
