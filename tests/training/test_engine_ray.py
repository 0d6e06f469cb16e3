"""The Ray engine on a Ray of this machine: real tasks that start real processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from training.reproduce.engine_ray import RayEngine, cores_a_gpu
from training.reproduce.job_process import last_line, log_path
from training.reproduce.jobs import Job, is_finished
from training.reproduce.run_job import FAILED, STOPPED
from training.reproduce.sweep import run_sweep
from training.run_folder import RunFolder

pytest.importorskip("ray")

# Ray 2 leaves its own sockets and files to the garbage collector and warns of its next version's defaults.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
FEW = ("data.limit_per_class=12", "evaluation.ood=[]", "evaluation.limit=6")


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    engine = RayEngine(2, address="local")
    yield engine
    engine.close()


def test_jobs_run_as_tasks_and_how_they_ended_comes_back(
    engine: RayEngine, small_cifar10: Path, tmp_path: Path
) -> None:
    """One goes well; one fails, as there is no such data set: that it does, and why, has passed through Ray."""
    good, bad = (Job("cifar10-baseline", "smoke", 0, (*FEW, f"data.name={name}")) for name in ("cifar10", "nothing"))
    outcome = run_sweep([good, bad], small_cifar10, tmp_path, engine)
    assert outcome.finished == [good]
    assert is_finished(good, RunFolder(tmp_path / good.name))
    (failure,) = outcome.failures
    assert "no data set 'nothing'" in failure.reason
    assert last_line(log_path(bad, tmp_path)) == failure.reason
    assert "1 cores a job" in engine.described


def test_a_stopped_job_goes_on_where_it_was(engine: RayEngine, small_cifar10: Path, tmp_path: Path) -> None:
    """Out of time before its first step it makes one and leaves a checkpoint; the next sweep makes the second."""
    job = Job("cifar10-baseline", "smoke", 0, (*FEW, "optimiser.epochs=2", "trainer.log_every=1"))
    assert _end_of(engine.start(job, small_cifar10, tmp_path, time.time())) == STOPPED
    run = RunFolder(tmp_path / job.name)
    assert (run.load_checkpoint()["step"], run.training_record()["steps"]) == (1, 2)
    began = run.metrics_path.read_text().splitlines()
    assert run_sweep([job], small_cifar10, tmp_path, engine).finished == [job]
    assert run.metrics_path.read_text().splitlines()[:1] == began


def test_a_job_asked_to_stop_leaves_a_checkpoint(engine: RayEngine, small_cifar10: Path, tmp_path: Path) -> None:
    job = Job("cifar10-baseline", "smoke", 0, (*FEW, "optimiser.epochs=4000", "trainer.log_every=1"))
    running, run = engine.start(job, small_cifar10, tmp_path, None), RunFolder(tmp_path / job.name)
    end = time.monotonic() + 120
    while not run.metrics_path.exists():
        assert time.monotonic() < end, "it did not begin in time"
        time.sleep(0.05)
    running.stop()
    assert _end_of(running) == STOPPED
    assert 0 < run.load_checkpoint()["step"] < 4000


def test_a_job_that_ray_loses_says_so_whatever_its_log_said_before(
    engine: RayEngine, small_cifar10: Path, tmp_path: Path
) -> None:
    """The process in which Ray runs the task is killed; the log has an earlier attempt's reason."""
    job = Job("cifar10-baseline", "smoke", 0, (*FEW, "optimiser.epochs=4000", "trainer.log_every=1"))
    log = log_path(job, tmp_path)
    log.parent.mkdir(parents=True)
    log.write_text("error: no data set 'nothing'\n")
    running = engine.start(job, small_cifar10, tmp_path, None)
    end = time.monotonic() + 240
    while (parent := _parent_of_the_job_in(tmp_path)) is None:
        assert time.monotonic() < end, "it did not begin in time"
        time.sleep(0.05)
    os.kill(parent, signal.SIGKILL)
    assert _end_of(running) == FAILED
    said = [line for line in log.read_text().splitlines() if line.startswith("error: ")]
    assert said[0] == "error: no data set 'nothing'"
    assert len(said) == 2
    assert said[1].startswith("error: Ray: The worker died unexpectedly")


def test_a_job_that_cannot_be_started_says_why(engine: RayEngine, small_cifar10: Path, tmp_path: Path) -> None:
    """A command line that is longer than the system allows is an error of the task itself, whose text comes back."""
    job = Job("cifar10-baseline", "smoke", 0, (f"evaluation.ood=[{' ' * 200_000}]",))
    outcome = run_sweep([job], small_cifar10, tmp_path, engine)
    (failure,) = outcome.failures
    assert failure.reason.startswith("error: Ray: OSError: [Errno 7] Argument list too long")


def test_a_job_has_as_many_cores_as_each_machine_has_for_a_gpu() -> None:
    """Over the whole cluster it would be 18, which no machine with a GPU has beside it."""
    nodes = [({"CPU": 64.0}, True), ({"CPU": 8.0, "GPU": 4.0}, True), ({"CPU": 1.0, "GPU": 4.0}, False)]
    described = [{"Resources": resources, "Alive": alive} for resources, alive in nodes]
    assert cores_a_gpu(described) == 2
    assert cores_a_gpu([*described, {"Resources": {"CPU": 2.0, "GPU": 8.0}, "Alive": True}]) == 1


def _parent_of_the_job_in(runs: Path) -> int | None:
    """Return the process in which Ray runs the task: the parent of the job that ``runs`` is an argument of."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            arguments = (status.parent / "cmdline").read_bytes().decode().split("\0")
            if "training.reproduce.run_job" in arguments and str(runs.resolve()) in arguments:
                return next(int(line.split()[1]) for line in status.read_text().splitlines() if "PPid:" in line)
        except OSError:
            continue  # it has ended
    return None


def _end_of(running, seconds: float = 120) -> int:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while (status := running.poll()) is None:
        assert time.monotonic() < end, "it did not end in time"
        time.sleep(0.05)
    return int(status)
