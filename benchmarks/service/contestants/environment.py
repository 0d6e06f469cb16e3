"""What a contestant's server reads from its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.service.work import Work

_PREFIX = "BENCHMARK_"


@dataclass(frozen=True)
class Plan:
    """How a contestant's server runs: the graph, threads of one run of it, processes, and (FastAPI) handler threads."""

    graph: Path
    run_threads: int
    workers: int
    handler_threads: int
    port: int

    def to_environment(self) -> dict[str, str]:
        """Return the variables from which ``from_environment`` reads this plan."""
        return {f"{_PREFIX}{name.upper()}": str(value) for name, value in vars(self).items()}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Plan:
        """Read a plan; raises KeyError for a variable that is not set."""
        values = {name: environment[_PREFIX + name.upper()] for name in cls.__dataclass_fields__}
        graph = Path(values.pop("graph"))
        return cls(graph=graph, **{name: int(value) for name, value in values.items()})

    def work(self) -> Work:
        """Load the graph, and run it twice so that the first request finds it warm."""
        work = Work(self.graph, self.run_threads)
        work.warm()
        return work
