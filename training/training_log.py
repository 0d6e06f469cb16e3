"""What a run says of itself while it trains: metrics.jsonl, and a progress bar or plain lines."""

from __future__ import annotations

import json
import math
import time

from lightning_fabric import Fabric
from rich.progress import TaskID
from torch import Tensor

from training.progress import note, progress_bar
from training.run_folder import RunFolder

PLAIN_LINE_SECONDS = 60.0


class TrainingLog:
    """Sums the losses on the device and, when asked, writes their means as one line of metrics.jsonl.

    A line: 'step', 'epoch', 'lr', the mean of each loss since the last line, 'views_per_second'. ``latest`` is the
    last means. Only the process that ``writes`` touches the file.
    """

    def __init__(self, run: RunFolder, writes: bool) -> None:
        self._run, self._writes = run, writes
        self._sums: dict[str, Tensor] = {}
        self._count, self._views, self._since = 0, 0, time.monotonic()
        self.latest: dict[str, float] = {}

    def add(self, losses: dict[str, Tensor], views: int) -> None:
        """Add the losses of a step over ``views`` views."""
        for name, value in losses.items():
            kept = value.detach()
            self._sums[name] = self._sums[name] + kept if name in self._sums else kept
        self._count += 1
        self._views += views

    def share(self, fabric: Fabric) -> None:
        """Make the losses those of all processes, each of which has an equal part of every batch; all must call it."""
        if fabric.world_size > 1:
            for name, total in self._sums.items():
                mean = fabric.all_reduce(total, reduce_op="mean")
                assert isinstance(mean, Tensor)
                self._sums[name] = mean

    def finite(self) -> bool:
        """Return whether every loss since the last line was finite; waits for the device."""
        return all(math.isfinite(float(total)) for total in self._sums.values())

    def write(self, step: int, epoch: float, rate: float) -> None:
        """Write the means since the last line and begin anew. Raises RunError if the file cannot be written."""
        means = {name: float(total) / self._count for name, total in self._sums.items()}
        speed = self._views / max(time.monotonic() - self._since, 1e-9)
        self.latest = {**means, "views_per_second": speed}
        if self._writes:
            line = {"step": step, "epoch": round(epoch, 4), "lr": rate, **self.latest}
            self._run.append_metrics(json.dumps(line, allow_nan=False))
        self._sums, self._count, self._views, self._since = {}, 0, 0, time.monotonic()


class TrainingBar:
    """Progress with loss, views per second and time left; plain lines, a minute apart, where there is no terminal."""

    def __init__(self, name: str, steps: int, first: int, quiet: bool) -> None:
        self._progress = progress_bar("loss {task.fields[loss]}", "{task.fields[speed]} views/s")
        self._plain = self._progress.disable and not quiet
        self._progress.disable |= quiet
        self._name, self._steps, self._first = name, steps, first
        self._task = TaskID(0)
        self._printed, self._started = -math.inf, time.monotonic()

    def __enter__(self) -> TrainingBar:
        self._progress.start()
        self._task = self._progress.add_task(self._name, total=self._steps, completed=self._first, loss="-", speed="-")
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, step: int, latest: dict[str, float]) -> None:
        """Show that ``step`` steps are done, with the ``latest`` means of the log."""
        loss, speed = f"{latest['loss']:.4f}", f"{latest['views_per_second']:.0f}"
        self._progress.update(self._task, completed=step, loss=loss, speed=speed)
        now = time.monotonic()
        if self._plain and (now - self._printed > PLAIN_LINE_SECONDS or step == self._steps):
            left = (now - self._started) / (step - self._first) * (self._steps - step) / 60
            note(f"{self._name}: step {step}/{self._steps}, loss {loss}, {speed} views/s, {left:.0f} min left")
            self._printed = now
