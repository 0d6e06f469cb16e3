"""A soak from beginning to end: start the server, load it, let it settle, judge."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.processes import Server, free_port, running
from benchmarks.service.workloads import MODELS
from benchmarks.soak.counted import Counted
from benchmarks.soak.expected import Graphs
from benchmarks.soak.mixed import Mix
from benchmarks.soak.report import Report
from benchmarks.soak.watch import Watch

# What comes first is not judged: buffers and arenas grow to the size that the largest requests need.
WARM_SHARE = 0.3
SETTLE_SECONDS = 20.0
FILES_MORE = 4


def soak(
    *,
    seconds: float | None = None,
    requests: int | None = None,
    growth_limit: float,
    models: Path = MODELS,
    serve_options: Sequence[str] = (),
    conditions: Mapping[str, Any] | None = None,
) -> Report:
    """Start ``quarterturn serve`` and load it: with the mix for ``seconds``, or with so many good ``requests``.

    ``growth_limit``: by what share memory may grow while it is judged. Raises ServerError, LoadError.
    """
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "serving.cli",
        "serve",
        "--port",
        str(port),
        "--models",
        str(models),
        *serve_options,
    ]
    with running(command, port, "/readyz") as server:
        watch = Watch(server)
        before = watch.open_files()
        if requests is None:
            assert seconds is not None
            mix = Mix(watch, Graphs(models))
            asyncio.run(mix.run(seconds))
            tallies, wrong, unit, units = mix.tallies, mix.wrong, "minute", 60.0
        else:
            counted = Counted(watch)
            counted.run(requests)
            tallies, wrong, unit, units = {"good": counted.tally}, counted.wrong, "thousand requests", 1000.0
        after = _settled_files(watch, before)
        judged_from = WARM_SHARE * (seconds if requests is None and seconds else float(requests or 0))
        wrong += watch.problems(before, judged_from, growth_limit)
        wrong += _more_files(before, after)
        wrong += _log_problems(server)
        title = f"Soak: {seconds:g} seconds of mixed load" if requests is None else f"Soak: {requests} good requests"
        return Report(
            title=title,
            conditions=conditions or {},
            tallies=tallies,
            watch=watch,
            judged_from=judged_from,
            growth_limit=growth_limit,
            files_before=before,
            files_after=after,
            unit=unit,
            units=units,
            wrong=wrong,
        )


def _settled_files(watch: Watch, before: Mapping[int, int]) -> dict[int, int]:
    """Return the open files once no more are open than before the load, or after SETTLE_SECONDS."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while _more_files(before, after := watch.open_files()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return after


def _more_files(before: Mapping[int, int], after: Mapping[int, int]) -> list[str]:
    return [
        f"worker {worker}: {count} files open after the load, {before[worker]} before it"
        for worker, count in after.items()
        if worker in before and count > before[worker] + FILES_MORE
    ]


def _log_problems(server: Server) -> list[str]:
    log = server.log.read_text(errors="replace")
    if "Traceback" not in log:
        return []
    return [f"the server's log has a stack trace: ...{log[max(0, log.rindex('Traceback') - 300) :][:2000]}"]
