"""Runs that are stopped or killed and go on: what comes out is that of an uninterrupted one, or they are refused."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from tests.training.checkpoints import log_lines, same_weights
from tests.training.command_line import (
    contents,
    quarterturn,
    recorded_step,
    start,
    train_arguments,
    wait_for_step,
)
from tests.training.runs import tiny
from training.recipe_files import load_recipe
from training.run_folder import RunError, RunFolder
from training.training_run import train_recipe

STEPS = 40


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


def test_images_that_moved_are_the_same_images(data_root: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    train_recipe(tiny(), data_root, run, max_minutes=0)
    moved = tmp_path / "elsewhere"
    shutil.copytree(data_root, moved)
    assert train_recipe(tiny(), moved, run, resume=True).finished
    assert run.environment()["data_root"] == str(moved)


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


def test_a_run_that_counted_after_the_limit_goes_on(data_root: Path, tmp_path: Path) -> None:
    run, recipe = RunFolder(tmp_path), tiny("own-classifier-32", "data.limit_per_class=6")
    train_recipe(recipe, data_root, run, max_minutes=0)
    record = run.training_record()
    run.write_json("training.json", {**record, "data": {**record["data"], "available": 18}})
    assert train_recipe(recipe, data_root, run, resume=True).finished
    assert run.training_record()["data"]["available"] == 72


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
