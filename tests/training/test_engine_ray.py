"""The Ray engine on a Ray of this machine: a real task that starts a real process."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.reproduce.engine_ray import RayEngine
from training.reproduce.job_process import last_line, log_path
from training.reproduce.jobs import Job
from training.reproduce.sweep import run_sweep

pytest.importorskip("ray")


# Ray 2 leaves its own sockets and files to the garbage collector and warns of its next version's defaults.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_job_runs_as_a_task_and_its_failure_comes_back(tmp_path: Path) -> None:
    """A job without data fails fast; that it does, and why, has passed from its process through Ray to the sweep."""
    engine = RayEngine(1, address="local")
    try:
        job = Job("cifar10-baseline", "smoke", 0)
        outcome = run_sweep([job], tmp_path / "data", tmp_path / "runs", engine)
    finally:
        engine.close()
    (failure,) = outcome.failures
    assert "no data set 'cifar10'" in failure.reason or "no data root" in failure.reason
    assert last_line(log_path(job, tmp_path / "runs")) == failure.reason
    assert "1 cores a job" in engine.described
