"""Running a target's jobs on an engine: what is finished is left, what fails is told, the rest goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from training.data.image_set import DataError
from training.evaluation_file import read_evaluation
from training.phases import has_pretrained
from training.reproduce.data_sets import has_come
from training.reproduce.engine import Engine, Running
from training.reproduce.job_process import log_path, reason_of
from training.reproduce.jobs import Job, is_finished, pretraining_of
from training.reproduce.run_job import FINISHED, STOPPED
from training.reproduce.sweep_display import SweepDisplay
from training.run_folder import RunError, RunFolder
from training.stop_signals import stop_signals

_SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True)
class Failure:
    """A job that failed: the reason in a line, and where the rest of it is."""

    job: Job
    reason: str
    log: Path | None


@dataclass
class SweepOutcome:
    """How a sweep ended, job by job. ``stopped``: at a checkpoint, or not begun."""

    finished_before: list[Job] = field(default_factory=list)
    finished: list[Job] = field(default_factory=list)
    stopped: list[Job] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @property
    def exit_status(self) -> int:
        """1 if a job failed, STOPPED (75) if some are left to do, else 0."""
        if self.failures:
            return 1
        return STOPPED if self.stopped else 0


def run_sweep(
    jobs: Sequence[Job], data: Path, runs: Path, engine: Engine, *, max_minutes: float | None = None
) -> SweepOutcome:
    """Run those of ``jobs`` that are not finished in ``runs`` on ``engine``, as many at once as it has places.

    A finished one is evaluated anew where ``data`` has come to hold a set that its evaluation lacked. Of jobs that
    share a pre-training one goes ahead, and the others begin when it is through with that. After ``max_minutes``, or on
    SIGINT or SIGTERM, running jobs stop at a checkpoint and none is begun; the same call goes on from there.
    """
    outcome = SweepOutcome()
    waiting = _unfinished(jobs, data, runs, outcome)
    deadline = None if max_minutes is None else time.time() + 60 * max_minutes
    running: dict[Job, Running] = {}
    stopping = False
    with stop_signals() as stop, SweepDisplay(len(jobs), runs, engine.described) as display:
        while waiting or running:
            if stop.made and not stopping:
                stopping = True
                for handle in running.values():
                    handle.stop()
            if stopping or (deadline is not None and time.time() >= deadline):
                outcome.stopped += waiting
                waiting = []
            while len(running) < engine.places and (job := _next(waiting, list(running), runs)) is not None:
                waiting.remove(job)
                running[job] = engine.start(job, data, runs, deadline)
                display.started(job)
            for job, handle in list(running.items()):
                status = handle.poll()
                if status is not None:
                    del running[job]
                    status = STOPPED if stopping and status < 0 else status  # killed between two checkpoints
                    _ended(job, status, runs, outcome)
                    display.ended(job, status)
            display.show(list(running), waiting, outcome.finished_before, outcome.finished, len(outcome.failures))
            if running:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
    return outcome


def _next(waiting: Sequence[Job], running: Sequence[Job], runs: Path) -> Job | None:
    """Return the first job that need not wait for the pre-training that a running one is at; None if there is none."""
    if not waiting:
        return None
    pretrain = [job for job in running if pretraining_of(job) is not None]
    at_work = {pretraining_of(job) for job in pretrain if not has_pretrained(RunFolder(runs / job.name))}
    return next((job for job in waiting if pretraining_of(job) not in at_work), None)


def _unfinished(jobs: Sequence[Job], data: Path, runs: Path, outcome: SweepOutcome) -> list[Job]:
    waiting: list[Job] = []
    for job in jobs:
        run = RunFolder(runs / job.name)
        try:
            finished = is_finished(job, run) and not _can_measure_more(job, run, data)
        except (RunError, DataError) as error:
            outcome.failures.append(Failure(job, str(error), None))
            continue
        (outcome.finished_before if finished else waiting).append(job)
    return waiting


def _can_measure_more(job: Job, run: RunFolder, data: Path) -> bool:
    """Return whether a finished run, whose weights are still there, could be evaluated on a set that it lacked."""
    evaluation = read_evaluation(run.path)
    return evaluation is not None and run.checkpoint_path.exists() and has_come(evaluation, job.resolved(), data)


def _ended(job: Job, status: int, runs: Path, outcome: SweepOutcome) -> None:
    if status == FINISHED:
        outcome.finished.append(job)
    elif status == STOPPED:
        outcome.stopped.append(job)
    else:
        log = log_path(job, runs)
        outcome.failures.append(Failure(job, reason_of(status, log), log))
