"""An engine that runs each job in the test's own process: what it does is real, and no process starts."""

from __future__ import annotations

from pathlib import Path

from training.reproduce.jobs import Job
from training.reproduce.run_job import run_job


class Done:
    """A job that has ended with ``status``."""

    def __init__(self, status: int) -> None:
        self._status = status

    def poll(self) -> int:
        return self._status

    def stop(self) -> None:
        """It has ended."""


class HereEngine:
    """Runs each real job at once, in this process; notes which were started."""

    places = 1
    described = "here"

    def __init__(self) -> None:
        self.started: list[str] = []

    def start(self, job: Job, data: Path, runs: Path, deadline: float | None) -> Done:
        self.started.append(job.name)
        try:
            return Done(run_job(job, data, runs, deadline))
        except ValueError as error:
            (runs / job.name / "log.txt").write_text(f"training\nerror: {error}\n")
            return Done(1)

    def close(self) -> None:
        """Nothing is held."""
