"""What a sweep shows while it runs: jobs done, running jobs' last lines, time left; plain lines without a terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from training.durations import duration
from training.progress import note
from training.reproduce.job_process import last_line, log_path, reason_of
from training.reproduce.jobs import Job
from training.reproduce.run_job import FINISHED, STOPPED

_ENDS = {FINISHED: "finished", STOPPED: "stopped at a checkpoint"}


class SweepDisplay:
    """Shows a sweep of ``total`` jobs on standard error."""

    def __init__(self, total: int, runs: Path, engine: str) -> None:
        self._total, self._runs, self._engine = total, runs, engine
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._began = time.monotonic()
        self._shares_before: dict[Job, float] = {}

    def __enter__(self) -> SweepDisplay:
        if self._console.is_terminal:
            self._live.start()
        else:
            note(f"{self._total} jobs, {self._engine}")
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def started(self, job: Job) -> None:
        """Say that ``job`` was started."""
        if not self._console.is_terminal:
            note(f"started: {job.name}")

    def ended(self, job: Job, status: int) -> None:
        """Say how ``job`` ended, and if it failed, why."""
        reason = f"failed: {reason_of(status, log_path(job, self._runs))}"
        note(f"{_ENDS.get(status, reason)}: {job.name}" if status in _ENDS else f"{job.name} {reason}")

    def show(
        self,
        running: Sequence[Job],
        waiting: Sequence[Job],
        before: Sequence[Job],
        finished: Sequence[Job],
        failed: int,
    ) -> None:
        """Draw the state anew, on a terminal."""
        if not self._console.is_terminal:
            return
        shares = {job: share_trained(job, self._runs) for job in running}
        left = self._time_left(shares, finished, len(waiting))
        done = len(before) + len(finished)
        counts = f"{done} of {self._total} jobs done"
        counts += f", {failed} failed" if failed else ""
        table = Table.grid(padding=(0, 2))
        for job in running:
            said = Text(last_line(log_path(job, self._runs)), overflow="ellipsis", no_wrap=True)
            table.add_row(Text(job.name), f"{100 * shares[job]:.0f} %", said)
        bar = ProgressBar(total=self._total, completed=done + sum(shares.values()), width=40)
        self._live.update(Group(bar, Text(f"{counts}; {left}; {self._engine}"), table), refresh=True)

    def _time_left(self, shares: Mapping[Job, float], finished: Sequence[Job], waiting: int) -> str:
        """Say how long is left if it goes on as it has since this call began; ``shares`` of the running jobs are done.

        Work that an earlier call did on these jobs does not count.
        """
        for job, share in shares.items():
            self._shares_before.setdefault(job, share)
        done = {**shares, **dict.fromkeys(finished, 1.0)}
        gained = sum(share - self._shares_before.get(job, 0.0) for job, share in done.items())
        if gained <= 0:
            return "time left not known yet"
        remaining = waiting + len(shares) - sum(shares.values())
        return f"{duration((time.monotonic() - self._began) / gained * remaining)} left"


def share_trained(job: Job, runs: Path) -> float:
    """Return the share of the job's steps that its training logs say are done, in [0, 1]."""
    folder = runs / job.name
    try:
        record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        phases = {phase["name"]: phase["steps"] for phase in record.get("phases", [])}
        if phases:
            logs = {name: folder / f"metrics{'' if name == 'last' else f'-{name}'}.jsonl" for name in phases}
            done = sum(_logged(log, "step") for log in logs.values())
            return min(1.0, done / float(sum(phases.values())))
        settings = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
        return min(1.0, _logged(folder / "metrics.jsonl", "epoch") / float(settings["optimiser"]["epochs"]))
    except (OSError, ValueError, KeyError):
        return 0.0


def _logged(log: Path, name: str) -> float:
    """Return a number of the last line of a training log; 0 if there is none yet."""
    line = last_line(log)
    return float(json.loads(line)[name]) if line else 0.0
