"""Evaluation and export on a data root that has changed since the training: refused where figures would be wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.command_line import contents, quarterturn
from tests.training.runs import make_data_root, make_run, write_images
from training.evaluation import evaluate_run
from training.export import export_run
from training.graph_precision import range_images
from training.recipe_files import load_recipe
from training.run_folder import RunError, RunFolder
from training.trained_on import check_trained_on
from training.training_run import load_split

RECIPE = "cifar10-baseline"
OOD = 'evaluation.ood=["gaussian"]'
OTHER_IMAGES = r"the images of cifar10/train are not those that the run was trained on: .*; put the data back as it was"
NEW_CLASS = r"the classes of 'cifar10' are not those .* trained on: cow came since; put the data back .*, or train anew"


@pytest.fixture(scope="module")
def first_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data_root(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def held_out_run(first_root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run whose held-out training images calibrate."""
    return make_run(tmp_path_factory.mktemp("held-out"), first_root, RECIPE, OOD)


@pytest.fixture(scope="module")
def half_run(first_root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that was trained on all training images; half of the test images calibrates."""
    return make_run(tmp_path_factory.mktemp("half"), first_root, RECIPE, OOD, "calibration.source=test_half")


@pytest.fixture
def root(first_root: Path, tmp_path: Path) -> Path:
    """A copy of the data, to be changed."""
    return Path(shutil.copytree(first_root, tmp_path / "data"))


def one_image_more(root: Path) -> None:
    write_images(root / "more", 1, 60, seed=99)
    (root / "more" / "000.png").rename(root / "cifar10" / "train" / "cat" / "more.png")


def one_class_more(root: Path) -> None:
    for split in ("train", "test"):
        write_images(root / "cifar10" / split / "cow", 4, 90, seed=98)


@pytest.mark.parametrize(("change", "said"), [(one_image_more, OTHER_IMAGES), (one_class_more, NEW_CLASS)])
def test_images_that_may_have_been_trained_on_do_not_calibrate(
    change: Callable[[Path], None], said: str, held_out_run: RunFolder, root: Path, tmp_path: Path
) -> None:
    change(root)
    before = contents(held_out_run.path)
    with pytest.raises(RunError, match=said):
        evaluate_run(held_out_run, root, device="cpu")
    with pytest.raises(RunError, match=said):
        export_run(held_out_run, "x", tmp_path / "models", data_root=root)
    with pytest.raises(RunError, match=said):
        range_images(held_out_run.recipe(), root, held_out_run.training_record())
    assert contents(held_out_run.path) == before
    assert not (tmp_path / "models").exists()


def test_the_commands_say_what_to_do(held_out_run: RunFolder, root: Path, tmp_path: Path) -> None:
    one_image_more(root)
    evaluated = quarterturn("evaluate", held_out_run.path, "--data", root)
    exported = quarterturn("export", held_out_run.path, "--name", "x", "--models", tmp_path / "models", "--data", root)
    for done in (evaluated, exported):
        assert done.error.endswith("can no longer be told; put the data back as it was, or train anew")
    (root / "cifar10" / "train" / "cat" / "more.png").unlink()
    assert quarterturn("evaluate", held_out_run.path, "--data", root).status == 0


def test_where_test_images_calibrate_the_classes_alone_count(half_run: RunFolder, root: Path) -> None:
    one_image_more(root)
    assert evaluate_run(half_run, root, device="cpu")["in_distribution"]["count"] == 24
    one_class_more(root)
    with pytest.raises(RunError, match=NEW_CLASS):
        evaluate_run(half_run, root, device="cpu")


def test_a_class_that_went_is_named(half_run: RunFolder, root: Path) -> None:
    for split in ("train", "test"):
        shutil.rmtree(root / "cifar10" / split / "dog")
    with pytest.raises(RunError, match=r"trained on: dog went; put"):
        evaluate_run(half_run, root, device="cpu")


@pytest.mark.parametrize("record", [{}, {"data": {"split": "test", "digest": "sha256:of the test images"}}])
def test_a_record_of_an_earlier_version_is_taken_as_it_is(record: dict[str, Any], first_root: Path) -> None:
    check_trained_on(load_split(load_recipe(RECIPE, "smoke"), first_root, "train"), record)
