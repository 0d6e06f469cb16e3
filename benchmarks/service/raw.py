"""Contestant (a): decoding and ONNX Runtime in process, with no server: what the machine can do.

A closed loop like wrk's: so many images are in flight, and each is sent anew as soon as it is done. ``runners`` threads
take ``batch`` of them at a time, decode and fit each, and run them together. JSON is no part of it.

    python -m benchmarks.service.raw WORKLOAD [--in-flight 16] [--seconds 5] [--cuda]     one line of JSON
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from benchmarks.service.load import Load
from benchmarks.service.work import Work
from benchmarks.service.workloads import WORKLOADS

WARM_SECONDS = 0.3


@dataclass(frozen=True)
class RawPlan:
    """``batch`` images a run, ``runners`` threads that each run the graph, ``run_threads`` of ONNX Runtime in each run.

    ``spinning``: ONNX Runtime's threads wait busily, its default.
    """

    batch: int
    runners: int
    run_threads: int
    spinning: bool = False

    @property
    def title(self) -> str:
        """Such as "batch 4, 1 x 2": runners x threads of a run."""
        return f"batch {self.batch}, {self.runners} x {self.run_threads}{', spinning' if self.spinning else ''}"


def plans(in_flight: int, cores: int, batches: Sequence[int] = (1, 4, 8), cuda: bool = False) -> list[RawPlan]:
    """Return the plans that so many images in flight can keep busy: 1, 2, 4, ... runners, up to one a core.

    They share the cores. On a GPU they have a thread each, for decoding: one decodes while another's run is on.
    """
    counts = {cores, *(2**power for power in range(cores.bit_length()))}
    plans = {
        RawPlan(batch, runners, 1 if cuda else cores // runners)
        for runners in counts
        for batch in batches
        if batch * runners <= in_flight
    }
    if not cuda:
        plans.add(RawPlan(1, min(cores, in_flight), 1))
    if not cuda and cores > 1:
        plans |= {RawPlan(batch, 1, cores, spinning=True) for batch in batches if batch <= in_flight}
    return sorted(plans, key=astuple)


def closed_loop(graph: Path, data: bytes, plan: RawPlan, in_flight: int, seconds: float, cuda: bool = False) -> Load:
    """Do the work for ``seconds``; latencies run from when an image is put in until its outputs are there.

    ``in_flight`` >= batch x runners. ``cpu_seconds`` are this process's own. Requests per second are counted between
    the first and the last batch that each runner ends in that time, so that few large batches give no coarse figure.
    Where none ends in that time they are 0, and the latencies infinite.
    """
    work = Work(graph, plan.run_threads, spinning=plan.spinning, cuda=cuda)
    work.run(np.stack([work.read(data)] * plan.batch))
    waiting: deque[float] = deque()
    ended: list[list[float]] = [[] for _ in range(plan.runners)]  # when each batch was done
    latencies: list[float] = []
    warm_until = time.perf_counter() + WARM_SECONDS
    stop_at = warm_until + seconds
    waiting.extend([time.perf_counter()] * in_flight)

    def run(mine: list[float]) -> None:
        now = 0.0
        while now < stop_at:
            begun = [waiting.popleft() for _ in range(plan.batch)]
            work.run(np.stack([work.read(data) for _ in begun]))
            now = time.perf_counter()
            if warm_until <= now < stop_at:
                mine.append(now)
                latencies.extend(now - start for start in begun)
            waiting.extend([now] * plan.batch)

    threads = [threading.Thread(target=run, args=(mine,)) for mine in ended]
    used = os.times()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    used_after = os.times()
    milliseconds = 1e3 * np.array(latencies)
    p50, p95, p99 = np.percentile(milliseconds, (50, 95, 99)).tolist() if milliseconds.size else 3 * [np.inf]
    return Load(
        requests_per_second=plan.batch * sum(rate(mine, seconds) for mine in ended),
        p50=p50,
        p95=p95,
        p99=p99,
        answered=milliseconds.size,
        failed=0,
        seconds=seconds,
        cpu_seconds=(used_after.user + used_after.system - used.user - used.system)
        * seconds
        / (seconds + WARM_SECONDS),
    )


def rate(times: Sequence[float], seconds: float) -> float:
    """Return how many ends a second ``times`` hold, ascending, of a stretch of ``seconds`` that they fell into."""
    if len(times) < 3:
        return len(times) / seconds
    return (len(times) - 1) / (times[-1] - times[0])


def main() -> None:
    """Run one plan, as the arguments say, and print its Load as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--runners", type=int, default=1)
    parser.add_argument("--run-threads", type=int, default=1)
    parser.add_argument("--spinning", action="store_true")
    parser.add_argument("--cuda", action="store_true")
    given = parser.parse_args()
    workload = WORKLOADS[given.workload]
    plan = RawPlan(given.batch, given.runners, given.run_threads, given.spinning)
    load = closed_loop(workload.task.graph, workload.data, plan, given.in_flight, given.seconds, given.cuda)
    print(json.dumps(vars(load)))


if __name__ == "__main__":
    main()
