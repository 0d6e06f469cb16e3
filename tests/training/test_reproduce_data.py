"""What a sweep says of a data root that lacks something, and what it does once that has come."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.here_engine import HereEngine
from training.corruptions.catalog import CORRUPTIONS
from training.data.image_set import DataError
from training.recipe_files import load_recipe
from training.reproduce.data_sets import check_data_root, has_come, lacking
from training.reproduce.jobs import Job, plan
from training.reproduce.reproduce import reproduce, summary
from training.reproduce.sweep import run_sweep
from training.reproduce.targets import TARGETS
from training.run_folder import RunFolder


def corrupted(root: Path, *names: str, mark: bool = False) -> None:
    folder = root / "cifar10-c"
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.npy").write_bytes(b"")
    if mark:
        (folder / "generated.json").write_text(json.dumps({"made": list(names), "source": {}}))


def test_a_folder_without_anything_to_train_on_is_refused_before_a_job_begins(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data set to train on \(cifar10, cifar100\)"):
        reproduce("table-2", tmp_path / "data", tmp_path / "runs", scale="smoke")
    assert not list((tmp_path / "runs").glob("*")) if (tmp_path / "runs").exists() else True
    (tmp_path / "data" / "cifar100").mkdir(parents=True)
    check_data_root(plan(TARGETS["table-2"], "smoke", 1), tmp_path / "data")


def test_what_a_root_lacks_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "svhn").mkdir()
    np.save(tmp_path / "lsun.npy", np.zeros((1, 2, 2, 3), np.uint8))
    figure_5 = lacking(plan(TARGETS["figure-5"], "paper", 2), tmp_path)
    assert len(figure_5) == len(set(figure_5))
    assert {"tiny-imagenet", "textures", "places365", "cifar100"} <= set(figure_5)
    assert not {"cifar10", "svhn", "lsun", "gaussian", "rademacher", "blobs"} & set(figure_5)
    figure_3 = plan(TARGETS["figure-3"], "cpu", 1)
    assert lacking(figure_3, tmp_path) == ["cifar10-c"]
    corrupted(tmp_path, *(name for name in CORRUPTIONS if name != "frost"))
    assert lacking(figure_3, tmp_path) == ["cifar10-c/frost"]
    assert lacking(plan(TARGETS["table-2"], "smoke", 1), tmp_path) == ["cifar100"]


def test_only_what_was_lacking_and_is_there_now_has_come(tmp_path: Path) -> None:
    recipe = load_recipe("cifar10-robustness-normal")
    evaluation: dict[str, Any] = {"missing": ["svhn"], "corruptions": {"missing": list(CORRUPTIONS)}}
    (tmp_path / "svhn").mkdir()  # the recipe does not ask for it
    assert not has_come(evaluation, recipe, tmp_path)
    corrupted(tmp_path, "fog", mark=True)
    assert has_come(evaluation, recipe, tmp_path)
    assert not has_come({"missing": [], "corruptions": {"missing": ["frost"]}}, recipe, tmp_path)
    (tmp_path / "cifar10-c" / "frost.npy").write_bytes(b"")  # not in the mark: unfinished
    assert not has_come({"missing": [], "corruptions": {"missing": ["frost"]}}, recipe, tmp_path)
    corrupted(tmp_path, "fog", "frost", mark=True)
    assert has_come({"missing": [], "corruptions": {"missing": ["frost"]}}, recipe, tmp_path)


def test_a_set_that_has_come_is_evaluated_by_the_same_command_and_nothing_is_trained(
    small_cifar10: Path, tmp_path: Path
) -> None:
    data, runs = tmp_path / "data", tmp_path / "runs"
    shutil.copytree(small_cifar10, data)
    shutil.rmtree(data / "svhn", ignore_errors=True)
    job = Job("cifar10-baseline", "smoke", 0, ('evaluation.ood=["gaussian", "svhn"]', "data.limit_per_class=12"))
    run = RunFolder(runs / job.name)

    def sweep() -> tuple[list[Job], dict[str, Any], str]:
        outcome = run_sweep([job], data, runs, HereEngine())
        evaluation = json.loads((run.path / "evaluation.json").read_text())
        return outcome.finished, evaluation, "\n".join(summary(outcome, runs))

    finished, evaluation, said = sweep()
    assert (finished, evaluation["missing"]) == ([job], ["svhn"])
    assert "not measured, as it was not there: svhn (1 job)" in said
    weights = run.checkpoint_path.read_bytes()
    assert sweep()[0] == [], "still not there: nothing to do"
    np.save(data / "svhn.npy", np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8))
    finished, evaluation, said = sweep()
    assert (finished, evaluation["missing"], set(evaluation["ood"])) == ([job], [], {"gaussian", "svhn"})
    assert "not measured" not in said
    assert run.checkpoint_path.read_bytes() == weights
    assert sweep()[0] == []
    np.save(data / "svhn.npy", np.zeros((0, 32, 32, 3), np.uint8))
    run.write_json("evaluation.json", evaluation | {"missing": ["svhn"]})
    run.checkpoint_path.unlink()
    assert sweep()[0] == [], "without its weights it stays as it is"
