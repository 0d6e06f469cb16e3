"""The bars that the service is held to, as ratios and differences within one run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.service.line_up import CONTESTANTS, OURS
from benchmarks.service.results import Cell, Results
from benchmarks.service.workloads import CLASSIFY, SCORE, Task

MEMORY_LIMIT_MB = 400


@dataclass(frozen=True)
class Bar:
    """A limit and what was measured. ``sign`` ">" and "<" are strict."""

    what: str
    sign: Literal[">=", "<=", ">", "<"]
    limit: float
    value: float

    @property
    def holds(self) -> bool:
        """Whether what was measured keeps the limit."""
        return {
            ">=": self.value >= self.limit,
            "<=": self.value <= self.limit,
            ">": self.value > self.limit,
            "<": self.value < self.limit,
        }[self.sign]


def bars(results: Results, summary: Sequence[Cell]) -> list[Bar]:
    """Return the bars that a run can judge: those whose contestants and loads it measured."""
    by_key = {(cell.workload, cell.connections, cell.contestant): cell for cell in summary}
    found: list[Bar] = []

    def of_raw(task: Task, limit: float) -> None:
        cell = by_key.get((f"{task.name}-png", 16, OURS))
        if cell and cell.ratio is not None:
            found.append(Bar(f"{task.title}, 16 connections: requests/s over (a)", ">=", limit, cell.ratio))

    of_raw(CLASSIFY, 0.8)
    light = by_key.get(("classify-png", 16, OURS))
    for other in ("fastapi", "litserve"):
        cell = by_key.get(("classify-png", 16, other))
        if light and cell and cell.requests_per_second > 0:
            ratio = light.requests_per_second / cell.requests_per_second
            found.append(
                Bar(f"light classifier, 16 connections: requests/s over {CONTESTANTS[other]}", ">", 1.0, ratio)
            )
    single = by_key.get(("classify-png", 1, OURS))
    if single and single.p50_over_raw is not None:
        found.append(Bar("light classifier, 1 connection: p50 above (a), ms", "<=", 2.0, single.p50_over_raw))
    of_raw(SCORE, 0.95)
    if results.ready:
        ours, empty = (statistics.median(results.ready[name]) for name in (OURS, "empty"))
        found.append(Bar("start to ready over that of an empty BentoML service", "<=", 1.5, ours / empty))
    workers = [resident for starts in results.memory.values() for start in starts for resident in start]
    if workers:
        found.append(
            Bar("resident memory of the largest worker after load, MB", "<", MEMORY_LIMIT_MB, max(workers) / 1e6)
        )
    return found
