"""What a benchmark run measured, as it is written to JSON, and what follows from it: bests, medians, ratios."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.service.line_up import RAW
from benchmarks.service.load import Load


@dataclass(frozen=True)
class Measurement:
    """One contestant, run in one variant, under one load. ``round`` counts from 0; None: a trial of a variant.

    ``server_cpu_seconds``: processor time of all the server's processes meanwhile.
    """

    workload: str
    connections: int
    contestant: str
    variant: str
    round: int | None
    load: Load
    server_cpu_seconds: float

    @property
    def cpu_ms_per_answer(self) -> float:
        """Processor time of the server for one answer, in milliseconds."""
        return 1e3 * self.server_cpu_seconds / max(1, self.load.answered)


@dataclass
class Results:
    """A whole run. ``ready``: seconds from start to ready by "quarterturn" and "empty", one entry a start, alternating.

    ``memory``: resident bytes of our workers after load, by workload's task, one list a server started.
    ``wrong``: what went wrong, one sentence each; empty in a good run.
    """

    conditions: dict[str, Any]
    measurements: list[Measurement] = field(default_factory=list)
    ready: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, list[list[int]]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write the run as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what ``save`` wrote."""
        content = json.loads(path.read_text())
        measurements = [Measurement(**{**one, "load": Load(**one["load"])}) for one in content.pop("measurements")]
        return cls(**content, measurements=measurements)


@dataclass(frozen=True)
class Cell:
    """The rounds of one contestant in one workload at one number of connections.

    Figures are medians over the rounds, latencies in milliseconds. ``ratio``: requests per second over those of (a)
    in the same round, median; ``ratios`` all of them; ``p50_over_raw``: p50 minus that of (a), median. None without
    (a).
    """

    workload: str
    connections: int
    contestant: str
    variant: str
    requests_per_second: float
    p50: float
    p95: float
    p99: float
    failed: int
    cpu_ms_per_answer: float
    generator_cores: float
    ratios: tuple[float, ...] | None
    p50_over_raw: float | None

    @property
    def ratio(self) -> float | None:
        """The median of ``ratios``."""
        return statistics.median(self.ratios) if self.ratios else None


def best_variant(trials: Iterable[Measurement]) -> str:
    """Return the variant with the most requests per second among trials of one cell; of equals the first.

    Of one tried several times its median trial counts. One whose requests failed is the best only where all have
    failed. Raises ValueError without trials.
    """
    return ranking(trials)[0]


def ranking(trials: Iterable[Measurement]) -> list[str]:
    """Return the variants among trials of one cell, as ``best_variant`` judges them, the best first.

    Raises ValueError without trials.
    """
    tried: dict[str, list[Load]] = {}
    for trial in trials:
        tried.setdefault(trial.variant, []).append(trial.load)
    if not tried:
        raise ValueError("no trials: the list is empty")

    def merit(variant: str) -> tuple[bool, float]:
        loads = tried[variant]
        return all(load.failed == 0 for load in loads), statistics.median(load.requests_per_second for load in loads)

    return sorted(tried, key=merit, reverse=True)


def cells(measurements: Sequence[Measurement]) -> list[Cell]:
    """Sum up the rounds, one cell for each workload, number of connections and contestant, in the order measured."""
    rounds: dict[tuple[str, int, str], list[Measurement]] = {}
    for one in measurements:
        if one.round is not None:
            rounds.setdefault((one.workload, one.connections, one.contestant), []).append(one)
    return [
        _cell(found, {one.round: one for one in rounds.get((workload, connections, RAW), [])})
        for (workload, connections, _), found in rounds.items()
    ]


def _cell(found: list[Measurement], raw: dict[int | None, Measurement]) -> Cell:
    def median(values: Iterable[float]) -> float:
        return statistics.median(values)

    loads = [one.load for one in found]
    pairs = [(one.load, raw[one.round].load) for one in found if one.round in raw]
    first = found[0]
    return Cell(
        workload=first.workload,
        connections=first.connections,
        contestant=first.contestant,
        variant=first.variant,
        requests_per_second=median(load.requests_per_second for load in loads),
        p50=median(load.p50 for load in loads),
        p95=median(load.p95 for load in loads),
        p99=median(load.p99 for load in loads),
        failed=sum(load.failed for load in loads),
        cpu_ms_per_answer=median(one.cpu_ms_per_answer for one in found),
        generator_cores=0.0 if first.contestant == RAW else median(load.cpu_seconds / load.seconds for load in loads),
        ratios=tuple(one.requests_per_second / other.requests_per_second for one, other in pairs) or None,
        p50_over_raw=median(one.p50 - other.p50 for one, other in pairs) if pairs else None,
    )
