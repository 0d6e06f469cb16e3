"""The lock of a run folder: one training at a time, and nothing of it left behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.training.command_line import contents, quarterturn, start, train_arguments, wait_for_step
from training import run_lock
from training.run_folder import RunError
from training.run_lock import LOCK_FILE, alone

BUSY = r"run is being trained by another process; wait for it, or stop it"


def test_a_folder_is_held_by_one_and_by_the_next_when_it_lets_go(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with alone(run):
        assert (run / LOCK_FILE).exists()
        with pytest.raises(RunError, match=BUSY), alone(run):
            pass
        assert (run / LOCK_FILE).exists(), "the one that was refused has not taken it away"
    assert contents(run) == {}
    with alone(run):
        pass


def test_one_who_waits_comes_in_and_then_holds_it(tmp_path: Path) -> None:
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with alone(tmp_path):
            inside.set()
            leave.wait(30)

    holder = threading.Thread(target=first)
    holder.start()
    inside.wait(30)
    threading.Timer(0.3, leave.set).start()
    began = time.monotonic()
    with alone(tmp_path, patience=30):
        assert time.monotonic() - began > 0.2
        with pytest.raises(RunError, match="is being trained"), alone(tmp_path):
            pass
    holder.join()


def test_a_lock_on_a_file_that_is_gone_bars_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening the file and locking it, the one who held it let go and removed it."""
    lock, calls = run_lock._lock, []

    def too_late(descriptor: int) -> None:
        if not calls:
            (tmp_path / LOCK_FILE).unlink()
        calls.append(descriptor)
        lock(descriptor)

    monkeypatch.setattr(run_lock, "_lock", too_late)
    with alone(tmp_path):
        monkeypatch.undo()
        assert len(calls) == 2
        with pytest.raises(RunError, match="is being trained"), alone(tmp_path):
            pass


@pytest.mark.parametrize("fails", [False, True])
def test_a_folder_made_for_the_lock_goes_with_it_unless_it_is_used(tmp_path: Path, fails: bool) -> None:
    with alone(tmp_path / "runs" / "one"):
        if not fails:
            (tmp_path / "runs" / "one" / "recipe.json").write_text("{}")
    assert [path.name for path in tmp_path.rglob("*")] == ([] if fails else ["runs", "one", "recipe.json"])


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from training.run_lock import alone\n"
        "with alone(Path(sys.argv[1])):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -9
    assert (tmp_path / LOCK_FILE).exists()
    with alone(tmp_path):
        pass
    assert contents(tmp_path) == {}


def test_a_place_that_cannot_be_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(RunError, match=r"could not write .*file/run: Not a directory"),
        alone(tmp_path / "file" / "run"),
    ):
        pass


def test_without_locks_training_goes_on_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def no_locks(descriptor: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(run_lock, "_lock", no_locks)
    with alone(tmp_path):
        pass
    assert "no locks here; let no other process train in this folder" in capfd.readouterr().err


def test_two_trainings_in_one_folder_are_one(data_root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = start(train_arguments(data_root, run, "optimiser.epochs=4000"))
    try:
        wait_for_step(first, run, 1)
        for more in ([], ["--resume"]):
            second = quarterturn(*train_arguments(data_root, run, "optimiser.epochs=4000", *more))
            assert second.error.endswith("run is being trained by another process; wait for it, or stop it")
    finally:
        first.terminate()
        _, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    resumed = quarterturn(*train_arguments(data_root, run, "optimiser.epochs=4000", "--resume"), "--max-minutes", 0)
    assert resumed.status == 0, resumed.err
    assert LOCK_FILE not in contents(run)


def test_a_lock_that_fails_otherwise_is_no_leave_to_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(run_lock, "_lock", failing)
    with pytest.raises(RunError, match="Input/output error"), alone(tmp_path / "run"):
        pass
