"""Training in several processes (torchrun, on CPUs): as one process does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training.checkpoints import log_lines
from tests.training.command_line import (
    quarterturn,
    train_arguments,
)
from training.run_folder import RunFolder

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
