"""Watching workers: process ids, resident memory and open files over time, and whether they stay flat."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import psutil

from benchmarks.processes import Server

MEMORY_LIMIT_MB = 400.0
MOST_SAMPLES = 300  # of those a slope is taken from: the number of their pairs grows with the square


@dataclass(frozen=True)
class Sample:
    """A worker at a time: ``at`` in any unit that grows (seconds, requests), resident megabytes (10^6 bytes), files."""

    at: float
    megabytes: float
    files: int


@dataclass
class Watch:
    """Samples of every worker of a server, by process id."""

    server: Server
    samples: dict[int, list[Sample]] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def look(self, at: float | None = None) -> None:
        """Take one sample of each worker, at so many seconds since the beginning or where told."""
        at = time.monotonic() - self.began if at is None else at
        for worker in self.server.workers():
            try:
                sample = Sample(at, worker.memory_info().rss / 1e6, worker.num_fds())
            except psutil.NoSuchProcess:
                continue
            self.samples.setdefault(worker.pid, []).append(sample)

    def open_files(self) -> dict[int, int]:
        """Return how many files and sockets each worker has open now."""
        return {worker.pid: worker.num_fds() for worker in self.server.workers()}

    def problems(self, before: dict[int, int], judged_from: float, growth_limit: float) -> list[str]:
        """Say what is not right: workers that came or went, and memory that grew or was too much.

        ``before``: open files by process id when the load began, which names the workers that must still be there.
        """
        alive = {worker.pid for worker in self.server.workers()}
        wrong = []
        if alive != before.keys() or self.samples.keys() - before.keys():
            wrong.append(
                f"workers {sorted(before)} at the beginning, {sorted(alive)} at the end, {sorted(self.samples)} seen"
            )
        for worker, samples in self.samples.items():
            trend = Trend.of([sample for sample in samples if sample.at >= judged_from])
            if trend is not None and trend.growth > growth_limit:
                wrong.append(
                    f"worker {worker}: memory grew by {trend.growth:.1%} while it was judged; limit {growth_limit:.0%}"
                )
            if (most := max(sample.megabytes for sample in samples)) >= MEMORY_LIMIT_MB:
                wrong.append(f"worker {worker}: {most:.0f} MB resident; limit {MEMORY_LIMIT_MB:.0f} MB")
        return wrong


@dataclass(frozen=True)
class Trend:
    """How resident memory went: median MB, MB for each unit of ``at`` (Theil and Sen), and over the whole stretch.

    The slope is the median of the slopes of all pairs of samples, so that single peaks, as while a large photo is
    decoded, do not count. ``growth`` is slope x length of the stretch, as a share of the median.
    """

    median: float
    slope: float
    growth: float

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Trend | None:
        """Return the trend of samples in order; None of fewer than three."""
        kept = samples[:: max(1, len(samples) // MOST_SAMPLES)]
        if len(kept) < 3:
            return None
        slopes = [
            (later.megabytes - earlier.megabytes) / (later.at - earlier.at)
            for earlier, later in combinations(kept, 2)
            if later.at > earlier.at
        ]
        median, slope = statistics.median(sample.megabytes for sample in kept), statistics.median(slopes)
        return cls(median, slope, slope * (kept[-1].at - kept[0].at) / median)
