"""What an engine offers a sweep: places for jobs, and a handle on each job it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from training.reproduce.jobs import Job


class Running(Protocol):
    """A job that was started."""

    def poll(self) -> int | None:
        """Return its exit status (see run_job), or None while it runs or waits for a place."""

    def stop(self) -> None:
        """Ask it to stop at a checkpoint; ``poll`` says when it has."""


class Engine(Protocol):
    """Where jobs run. ``places``: how many can be started at once. ``described``: in words, for the user."""

    places: int
    described: str

    def start(self, job: Job, data: Path, runs: Path, deadline: float | None) -> Running:
        """Start ``job`` as a process of its own, somewhere."""

    def close(self) -> None:
        """Give back what the engine holds."""


class EngineError(RuntimeError):
    """An engine that cannot be had; the message says what to do."""
