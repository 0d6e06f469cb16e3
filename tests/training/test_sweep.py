"""Sweeps as real processes of this machine: side by side, killed and gone on with, a pre-training for several jobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from training.reproduce.engine_local import LocalEngine
from training.reproduce.job_process import log_path
from training.reproduce.jobs import Job, plan
from training.reproduce.run_job import FINISHED, SHARED_PHASES, run_job
from training.reproduce.sweep import run_sweep
from training.reproduce.targets import TARGETS

FEW = ("data.limit_per_class=12", "evaluation.limit=6")
SECONDS = 200
REPRODUCE = (
    "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from serving.cli import main; main()"
)


def wait_for(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


class Observed(LocalEngine):
    """Three places, and which jobs were at work when each was begun."""

    def __init__(self) -> None:
        super().__init__(3, gpus=["", "", ""], cores=2)  # places as on three GPUs, none of which is visible to a job
        self.begun: list[tuple[str, int]] = []

    def start(self, job: Job, data: Path, runs: Path, deadline: float | None):  # type: ignore[no-untyped-def]
        self.begun.append((job.name, self.places - len(self._free)))
        return super().start(job, data, runs, deadline)


@pytest.mark.slow
def test_jobs_run_side_by_side_and_one_of_them_pretrains_for_all(small_cifar10: Path, tmp_path: Path) -> None:
    rotations = [Job("cifar10-labels-none-rotations", "smoke", 0, (*FEW, f"labels.strength={s}")) for s in (0.0, 0.8)]
    other = Job("cifar10-labels-none", "smoke", 0, FEW)
    engine = Observed()
    outcome = run_sweep([*rotations, other], small_cifar10, tmp_path, engine)
    assert sorted(job.name for job in outcome.finished) == sorted(job.name for job in (*rotations, other))
    first, second = (job.name for job in rotations)
    assert engine.begun[:2] == [(first, 0), (other.name, 1)], "the second waits, and lets the third go before it"
    assert engine.begun[2][0] == second
    assert len(list((tmp_path / SHARED_PHASES).iterdir())) == 1
    assert (tmp_path / first / "metrics-pretraining.jsonl").exists()
    assert not (tmp_path / second / "metrics-pretraining.jsonl").exists(), "it took the first one's"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux, for one place alone")
def test_a_killed_reproduce_goes_on_to_the_end(small_cifar10: Path, tmp_path: Path) -> None:
    """Killed (kill -9) at the second of two jobs, and called again: neither call runs the first, which is finished."""
    arguments = ["reproduce", "figure-3", "--data", str(small_cifar10), "--out", str(tmp_path), "--scale", "smoke"]
    command = [sys.executable, "-c", REPRODUCE, *arguments]
    finished, killed = plan(TARGETS["figure-3"], "smoke", 1)
    first, second = tmp_path / finished.name, tmp_path / killed.name
    assert run_job(finished, small_cifar10, tmp_path, None) == FINISHED
    before = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    sweep = subprocess.Popen(command, **options)  # type: ignore[call-overload]
    wait_for(lambda: "training" in _text(second / "log.txt"))
    sweep.kill()
    sweep.communicate()
    assert not (second / "evaluation.json").exists()
    done = subprocess.run(command, **options, check=False)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout
    assert "1 jobs finished, 1 were finished before" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == before
    assert json.loads((second / "evaluation.json").read_text())["seed"] == 0


@pytest.mark.slow
def test_a_job_that_was_killed_is_said_to_have_been(small_cifar10: Path, tmp_path: Path) -> None:
    """As the kernel does when memory runs out; the last line of its log is no reason."""
    long = Job("cifar10-baseline", "smoke", 0, (*FEW, "optimiser.epochs=4000"))
    engine = LocalEngine(1, gpus=[], cores=1)

    class Killing:
        places, described, close = engine.places, engine.described, engine.close

        def start(self, *arguments):  # type: ignore[no-untyped-def]
            started = engine.start(*arguments)
            wait_for(lambda: "training" in _text(log_path(long, tmp_path)))
            started.process.send_signal(signal.SIGKILL)
            return started

    (failure,) = run_sweep([long], small_cifar10, tmp_path, Killing()).failures
    assert failure.reason.startswith("killed by signal 9 (SIGKILL, as when the system is out of memory); its log ends")


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
