"""A whole training run: its images, its record, and that neither a kill nor a stop changes what comes out."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.checkpoints import log_lines, same_weights
from tests.training.command_line import (
    TINY,
    contents,
    quarterturn,
    recorded_step,
    start,
    train_arguments,
    wait_for_step,
)
from training.data.image_set import DataError, InMemory
from training.environment import library_versions
from training.evaluation import current_evaluation, evaluate_run
from training.recipe import Recipe
from training.recipe_files import load_recipe
from training.run_folder import RunError, RunFolder
from training.training_run import (
    calibration_images,
    fitting_of,
    in_distribution,
    load_split,
    train_recipe,
    training_indices,
)

STEPS = 40


def tiny(recipe: str = "own-classifier-32", *more: str) -> Recipe:
    return load_recipe(recipe, "smoke", [*TINY, "optimiser.epochs=2", *more])


@pytest.fixture(scope="module")
def whole(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """An uninterrupted run of 40 steps."""
    run = RunFolder(tmp_path_factory.mktemp("whole") / "run")
    done = quarterturn(*train_arguments(data_root, run.path))
    assert done.status == 0, done.err
    assert f"step {STEPS} of {STEPS}" in done.out
    return run


def assert_as_uninterrupted(run: RunFolder, whole: RunFolder) -> None:
    assert same_weights(run, whole)
    assert log_lines(run) == log_lines(whole)
    records = [one.training_record() for one in (run, whole)]
    assert records[0].pop("seconds") > 0
    assert records[1].pop("seconds") > 0
    assert records[0] == records[1]
    assert records[0]["finished"]
    assert sorted(contents(run.path)) == sorted(contents(whole.path)), "nothing of the killed process is left"


@pytest.mark.slow
def test_killed_twice_and_resumed_the_weights_are_those_of_an_uninterrupted_run(
    data_root: Path, tmp_path: Path, whole: RunFolder
) -> None:
    run = RunFolder(tmp_path / "run")
    for step, resume in ((8, []), (20, ["--resume"])):
        process = start(train_arguments(data_root, run.path, *resume))
        wait_for_step(process, run.path, step)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        process.communicate()
        assert step <= run.load_checkpoint()["step"] < STEPS
    done = quarterturn(*train_arguments(data_root, run.path, "--resume"))
    assert done.status == 0, done.err
    assert f"step {STEPS} of {STEPS}" in done.out
    assert done.out.rstrip().endswith("finished")
    assert_as_uninterrupted(run, whole)


@pytest.mark.slow
def test_sigterm_stops_at_a_checkpoint_and_resume_ends_with_the_same_weights(
    data_root: Path, tmp_path: Path, whole: RunFolder
) -> None:
    run = RunFolder(tmp_path / "run")
    process = start(train_arguments(data_root, run.path))
    wait_for_step(process, run.path, 4)
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    step = run.load_checkpoint()["step"]
    assert 4 <= step < STEPS
    assert f"step {step} of {STEPS}" in out
    assert out.rstrip().endswith("stopped at a checkpoint; --resume goes on")
    assert recorded_step(run.path) == step
    assert quarterturn(*train_arguments(data_root, run.path, "--resume")).status == 0
    assert_as_uninterrupted(run, whole)


def test_max_minutes_stops_at_a_checkpoint_and_resume_ends_with_the_same_weights(
    data_root: Path, tmp_path: Path, whole: RunFolder
) -> None:
    run = RunFolder(tmp_path / "run")
    for step in (1, 2, 3):
        resume = ["--resume"] if step > 1 else []
        done = quarterturn(*train_arguments(data_root, run.path, *resume), "--max-minutes", 0)
        assert done.status == 0, done.err
        assert f"step {step} of {STEPS}, {step * 8 * 4} views" in done.out
        assert done.out.rstrip().endswith("stopped at a checkpoint; --resume goes on")
    record = run.training_record()
    assert (record["step"], record["steps"], record["finished"]) == (3, STEPS, False)
    assert quarterturn(*train_arguments(data_root, run.path, "--resume")).status == 0
    assert_as_uninterrupted(run, whole)


def test_a_kill_between_checkpoint_and_record_leaves_a_record_that_is_made_good(
    data_root: Path, tmp_path: Path, whole: RunFolder
) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(whole.path, run.path)
    run.write_json("training.json", {**whole.training_record(), "step": STEPS - 1, "finished": False})
    done = quarterturn(*train_arguments(data_root, run.path, "--resume"))
    assert done.out.rstrip().endswith("finished")
    assert_as_uninterrupted(run, whole)


@pytest.mark.parametrize("finished", [True, False])
def test_going_on_with_a_finished_run_leaves_what_it_was_trained_with(
    data_root: Path, tmp_path: Path, finished: bool
) -> None:
    """Also where the process was killed between its last checkpoint and the record of it."""
    run = RunFolder(tmp_path / "run")
    train_recipe(tiny(), data_root, run)
    elsewhere = {**run.training_record(), "device": "CPU (of another machine), 64 threads", "precision": "32-true"}
    run.write_json("training.json", elsewhere if finished else {**elsewhere, "step": 2, "finished": False})
    run.write_json("environment.json", {**run.environment(), "libraries": {"torch": "1.0"}, "source_revision": "old"})
    before = contents(run.path)
    moved = Path(shutil.copytree(data_root, tmp_path / "moved"))
    assert train_recipe(tiny("own-classifier-32", "evaluation.limit=5"), moved, run, resume=True).finished
    after = contents(run.path)
    assert {name for name in before if before[name] != after[name]} == {
        "recipe.json",
        *([] if finished else ["training.json"]),
    }
    assert run.recipe().evaluation.limit == 5
    record = run.training_record()
    assert record.pop("seconds") >= elsewhere.pop("seconds")
    assert record == elsewhere


def test_a_run_without_a_checkpoint_begins_anew_with_or_without_resume(data_root: Path, tmp_path: Path) -> None:
    """What a process that was killed in its first minutes leaves: a record, no checkpoint."""
    results = []
    for place, resume in (("one", True), ("other", False)):
        run = RunFolder(tmp_path / place)
        run.write_json("training.json", {"data": {"digest": "of other images"}})
        assert train_recipe(tiny(), data_root, run, resume=resume).finished
        results.append(run)
    assert same_weights(*results)
    assert results[0].training_record()["data"]["digest"].startswith("sha256:")


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


def test_other_images_are_refused_and_the_run_stays(data_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(data_root, root)
    run = RunFolder(tmp_path / "run")
    train_recipe(tiny(), root, run, max_minutes=0)
    before = contents(run.path)
    (root / "photos" / "train" / "ramp" / "003.png").unlink()
    with pytest.raises(RunError, match=r"the images in .*data are not those the run in .*run began with"):
        train_recipe(tiny(), root, run, resume=True)
    assert contents(run.path) == before


def test_another_training_into_the_folder_leaves_no_evaluation_of_the_first(data_root: Path, tmp_path: Path) -> None:
    """Both trainings are of four steps: the step alone does not tell them apart."""
    run = RunFolder(tmp_path / "run")
    train_recipe(tiny(), data_root, run)
    evaluate_run(run, data_root, device="cpu")
    run.checkpoint_path.unlink()
    train_recipe(tiny(), data_root, run, seed=7)
    assert current_evaluation(run) is None
    assert not (run.path / "evaluation.json").exists()


def test_images_that_moved_are_the_same_images(data_root: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    train_recipe(tiny(), data_root, run, max_minutes=0)
    moved = tmp_path / "elsewhere"
    shutil.copytree(data_root, moved)
    assert train_recipe(tiny(), moved, run, resume=True).finished
    assert run.environment()["data_root"] == str(moved)


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


def test_a_run_does_not_go_on_in_another_precision(data_root: Path, tmp_path: Path) -> None:
    run, full, mixed = RunFolder(tmp_path / "run"), tiny("own-classifier-32"), "trainer.precision=bf16-mixed"
    train_recipe(full, data_root, run, max_minutes=0)
    assert run.training_record()["precision"] == "32-true"
    with pytest.raises(
        RunError, match=r"began in precision 32-true and would go on in bf16-mixed; trainer.precision=3"
    ):
        train_recipe(tiny("own-classifier-32", mixed), data_root, run, resume=True)
    explicit = tiny("own-classifier-32", "trainer.precision=32-true")
    assert train_recipe(explicit, data_root, run, resume=True, max_minutes=0).step == 2


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


def test_a_run_that_counted_after_the_limit_goes_on(data_root: Path, tmp_path: Path) -> None:
    run, recipe = RunFolder(tmp_path), tiny("own-classifier-32", "data.limit_per_class=6")
    train_recipe(recipe, data_root, run, max_minutes=0)
    record = run.training_record()
    run.write_json("training.json", {**record, "data": {**record["data"], "available": 18}})
    assert train_recipe(recipe, data_root, run, resume=True).finished
    assert run.training_record()["data"]["available"] == 72


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


def test_large_images_stream_through_a_whole_run(large_data_root: Path, tmp_path: Path) -> None:
    """An interrupted run of images read from disk: the crops of a step are the same again."""
    changes = ["network.kind=wide_resnet", "network.depth=10", "network.width=1", "network.dropout=0.0"]
    small = ["data.size=72", "data.shorter_side=80", "optimiser.batch=4", "optimiser.epochs=2"]
    recipe = load_recipe("own-classifier-32", "smoke", [*changes, *small])
    straight, stopped = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "stopped")
    outcome = train_recipe(recipe, large_data_root, straight)
    assert outcome.steps == 2
    assert not train_recipe(recipe, large_data_root, stopped, max_minutes=0).finished
    assert train_recipe(recipe, large_data_root, stopped, resume=True).finished
    assert same_weights(straight, stopped)


ALIKE = ("network.dropout=0.0", "optimiser.lr=0.01", "optimiser.epochs=8")
ATTACKED = ("cifar10-adversarial-rotations", "cifar10-trades-rotations")


@pytest.mark.slow
def test_two_processes_train_as_one_does(data_root: Path, tmp_path: Path) -> None:
    """torchrun with two CPU processes and the same global batch: float error alone tells their curves apart."""
    arguments = train_arguments(data_root, tmp_path / "two", *ALIKE)
    torchrun("-m", "serving.cli", *arguments)
    assert_as_one_process_does(arguments, tmp_path / "two", 1e-3)


@pytest.mark.slow
def test_two_processes_train_under_attack_as_one_does(data_root: Path, tmp_path: Path) -> None:
    """The start of each image is its own draw, and batch norm sees the whole batch in every pass.

    A rounding error may turn the sign of a gradient next to nothing, and so a whole step of a pixel.
    """
    changes = (*ALIKE, "data.name=photos")
    trainings = {name: train_arguments(data_root, tmp_path / name, *changes, recipe=name) for name in ATTACKED}
    torchrun("-m", "tests.training.train_each", json.dumps(list(trainings.values())))
    for name, arguments in trainings.items():
        assert_as_one_process_does(arguments, tmp_path / name, 5e-3)


@pytest.mark.slow
def test_processes_that_see_different_checkpoints_do_not_begin(tmp_path: Path) -> None:
    torchrun("-m", "tests.training.folders_apart", str(tmp_path))
    assert sorted(path.name for path in tmp_path.glob("?/refused")) == ["refused", "refused"]


def torchrun(*command: str) -> None:
    options = ("--standalone", "--nproc-per-node", "2")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *options, *command],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def assert_as_one_process_does(arguments: list[str], folder: Path, tolerance: float) -> None:
    """Train with the same ``arguments`` in this process, and compare with the run of two in ``folder``."""
    two, one = RunFolder(folder), RunFolder(folder.with_name(f"{folder.name}-alone"))
    assert quarterturn(*(str(one.path) if part == str(two.path) else part for part in arguments)).status == 0
    curves = [[line["loss"] for line in log_lines(run)] for run in (one, two)]
    assert len(curves[0]) == len(curves[1]) == 8
    assert curves[1][0] == pytest.approx(curves[0][0], rel=1e-5)
    assert curves[1] == pytest.approx(curves[0], rel=tolerance)
    records = [run.training_record() for run in (one, two)]
    for record in records:
        del record["seconds"]
    assert records[0] == records[1]
    weights = two.load_checkpoint()["network"]
    assert weights.keys() == one.load_checkpoint()["network"].keys(), "no 'module.' in front"
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert json.loads((two.path / "environment.json").read_text())["seed"] == 0
