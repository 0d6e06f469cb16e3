"""A whole training run: its images, and what it records."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.training.runs import tiny
from training.data.image_set import DataError, InMemory
from training.environment import library_versions
from training.evaluation import current_evaluation, evaluate_run
from training.recipe_files import load_recipe
from training.run_folder import RunFolder
from training.training_run import (
    calibration_images,
    fitting_of,
    in_distribution,
    load_split,
    train_recipe,
    training_indices,
)


def test_the_record_says_what_was_trained_on(data_root: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    recipe = tiny("own-one-class-32", "data.in_class=corner", "data.limit_per_class=0")
    outcome = train_recipe(recipe, data_root, run, seed=4)
    record = run.training_record()
    assert record["data"] == {
        "name": "photos",
        "split": "train",
        "digest": load_split(recipe, data_root, "train").digest,
        "available": 24,
        "count": 16,
        "in_class": "corner",
    }
    assert (record["held_out"], record["classes"], record["skipped"]) == (8, ["arrow", "corner", "ramp"], [])
    assert (record["step"], record["steps"], record["finished"]) == (4, 4, True)
    assert (record["views"], record["device"]) == (outcome.views, outcome.device)
    assert run.recipe() == recipe
    assert run.load_checkpoint()["seed"] == 4


def test_the_environment_says_where_and_with_what(data_root: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    train_recipe(tiny(), data_root, run, seed=4, max_minutes=0)
    environment = run.environment()
    assert environment["seed"] == 4
    assert environment["libraries"] == library_versions()
    assert environment["data_root"] == str(data_root.resolve())
    assert environment["source_revision"]


def test_unreadable_images_are_left_out_on_request_and_recorded(
    data_root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    shutil.copytree(data_root, root)
    bad = root / "photos" / "train" / "ramp" / "003.png"
    bad.write_bytes(bad.read_bytes()[:100])
    run = RunFolder(tmp_path / "run")
    with pytest.raises(DataError, match=r"1 of 72 files will not do: .*003\.png"):
        train_recipe(tiny(), root, run)
    assert not run.path.exists()
    train_recipe(tiny("own-classifier-32", "data.skip_unreadable=true"), root, run, max_minutes=0)
    [skipped] = run.training_record()["skipped"]
    assert skipped.startswith(f"{bad}: ")
    assert f"left out: {skipped}\n" in capfd.readouterr().err


def test_another_training_into_the_folder_leaves_no_evaluation_of_the_first(data_root: Path, tmp_path: Path) -> None:
    """Both trainings are of four steps: the step alone does not tell them apart."""
    run = RunFolder(tmp_path / "run")
    train_recipe(tiny(), data_root, run)
    evaluate_run(run, data_root, device="cpu")
    run.checkpoint_path.unlink()
    train_recipe(tiny(), data_root, run, seed=7)
    assert current_evaluation(run) is None
    assert not (run.path / "evaluation.json").exists()


def test_images_that_calibrate_are_never_trained_on(data_root: Path) -> None:
    for name, in_class in (("own-classifier-32", []), ("own-one-class-32", ["data.in_class=ramp"])):
        recipe = load_recipe(name, "smoke", ["data.limit_per_class=0", *in_class])
        normal = in_distribution(recipe, load_split(recipe, data_root, "train"))
        trained, held_out = training_indices(recipe, normal)
        calibrating, split = calibration_images(recipe, data_root, None)
        assert split == "held out of train"
        assert isinstance(normal.pixels, InMemory)
        assert isinstance(calibrating.pixels, InMemory)
        np.testing.assert_array_equal(calibrating.pixels.array, normal.pixels.array[held_out])
        assert not {image.tobytes() for image in calibrating.pixels.array} & {
            image.tobytes() for image in normal.pixels.array[trained]
        }
        assert len(trained) + len(held_out) == len(normal)
        assert set(normal.labels[trained]) == set(normal.labels[held_out]) == set(normal.labels)


def test_at_paper_scale_all_training_images_train_and_half_of_test_calibrates(data_root: Path) -> None:
    recipe = load_recipe("own-classifier-32", "paper", ["calibration.source=test_half"])
    normal = load_split(recipe, data_root, "train")
    trained, held_out = training_indices(recipe, normal)
    assert (trained.tolist(), len(held_out)) == (list(range(72)), 0)
    calibrating, split = calibration_images(recipe, data_root, None)
    assert (len(calibrating), calibrating.split, split) == (12, "test", "half of test")


def test_a_limit_is_for_training_images_alone(data_root: Path) -> None:
    recipe = load_recipe("own-classifier-32", "smoke", ["data.limit_per_class=3"])
    assert len(load_split(recipe, data_root, "train")) == 9
    assert len(load_split(recipe, data_root, "test")) == 24
    assert fitting_of(recipe).model_dump() == {"size": 32, "shorter_side": 32}


def test_what_was_there_is_counted_before_the_limit(data_root: Path, tmp_path: Path) -> None:
    one = ("data.in_class=ramp",)
    for recipe, of_class, available in (("own-classifier-32", (), 72), ("own-one-class-32", one, 24)):
        run = RunFolder(tmp_path / recipe)
        train_recipe(tiny(recipe, "data.limit_per_class=6", *of_class), data_root, run, max_minutes=0)
        record = run.training_record()
        assert record["data"]["available"] == available
        assert record["data"]["count"] + record["held_out"] == (6 if of_class else 18)


def test_images_too_few_to_hold_any_out_are_not_trained_on(data_root: Path, tmp_path: Path) -> None:
    run, few = RunFolder(tmp_path / "run"), ("own-classifier-32", "data.limit_per_class=1")
    with pytest.raises(DataError, match=r"of the images in photos/train none can be held out, .* a class needs two"):
        train_recipe(tiny(*few), data_root, run)
    assert not run.path.exists()
    assert train_recipe(tiny(*few, "calibration.source=test_half"), data_root, run, max_minutes=0).step == 1


def test_a_class_that_is_not_there_is_named(data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no class 'ram'; the classes are arrow, corner, ramp"):
        train_recipe(tiny("own-one-class-32", "data.in_class=ram"), data_root, RunFolder(tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []
