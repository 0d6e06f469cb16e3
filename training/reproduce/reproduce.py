"""A target of the paper from beginning to end: its jobs, an engine for them, and what is to be said of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from training.evaluation_file import missing_in, read_evaluation
from training.progress import note
from training.recipe import Scale
from training.reproduce.data_sets import check_data_root, lacking
from training.reproduce.engine import Engine, EngineError
from training.reproduce.jobs import plan
from training.reproduce.sweep import SweepOutcome, run_sweep
from training.reproduce.targets import find_target
from training.reproduce.wall_time import Call, keep_call

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Reproduced:
    """How a target's jobs ended, and the call that ran them."""

    outcome: SweepOutcome
    call: Call


def reproduce(
    target: str,
    data: Path,
    runs: Path,
    *,
    scale: Scale = "paper",
    seeds: int = 1,
    engine: str = "local",
    max_minutes: float | None = None,
) -> Reproduced:
    """Train and evaluate every network of ``target`` into folders of ``runs``, and keep there how long that took.

    What ``data`` lacks is said before anything is trained. Raises TargetError, EngineError, DataError.
    """
    began = time.monotonic()
    jobs = plan(find_target(target), scale, seeds)
    check_data_root(jobs, data)
    if names := lacking(jobs, data):
        note(f"not in {data}: {', '.join(names)}; `quarterturn data --root {data}` says how to get them")
    runs.mkdir(parents=True, exist_ok=True)
    opened = open_engine(engine, len(jobs))
    try:
        outcome = run_sweep(jobs, data, runs, opened, max_minutes=max_minutes)
    finally:
        opened.close()
    call = Call(
        target=target,
        scale=scale,
        seeds=seeds,
        engine=opened.described,
        seconds=round(time.monotonic() - began, 1),
        finished=len(outcome.finished),
        finished_before=len(outcome.finished_before),
        stopped=len(outcome.stopped),
        failed=len(outcome.failures),
    )
    keep_call(runs, call)
    return Reproduced(outcome, call)


def open_engine(name: str, jobs: int) -> Engine:
    """Return engine ``name`` for so many jobs. Raises EngineError for an unknown one, or one not installed."""
    if name == "local":
        from training.reproduce.engine_local import LocalEngine

        return LocalEngine(jobs)
    if name == "ray":
        from training.reproduce.engine_ray import RayEngine

        return RayEngine(jobs)
    raise EngineError(f"no engine {name!r}; there are {', '.join(ENGINES)}")


def summary(outcome: SweepOutcome, runs: Path) -> list[str]:
    """Return how a sweep ended, a line each: counts, what evaluations lacked, every failure with its reason and log."""
    lines = [f"{len(outcome.finished)} jobs finished, {len(outcome.finished_before)} were finished before"]
    if outcome.stopped:
        lines.append(f"{len(outcome.stopped)} are left to do; the same command goes on with them")
    lacked: dict[str, int] = {}
    for job in (*outcome.finished_before, *outcome.finished):
        for name in missing_in(read_evaluation(runs / job.name) or {}):
            lacked[name] = lacked.get(name, 0) + 1
    if lacked:
        named = ", ".join(f"{name} ({count} job{'' if count == 1 else 's'})" for name, count in lacked.items())
        lines.append(
            f"not measured, as it was not there: {named}; the same command evaluates data sets that have come since"
        )
    for failure in outcome.failures:
        where = f" (log: {failure.log})" if failure.log else ""
        lines.append(f"failed: {failure.job.name}: {failure.reason}{where}")
    return lines
