"""The service against raw ONNX Runtime, FastAPI, LitServe and stock BentoML: ``make bench``.

    python -m benchmarks.service [--quick] [--only raw,quarterturn] [--workload classify-png] [--connections 1,16]
        [--seconds 5] [--trial-seconds 2] [--rounds 3] [--serve-options "--workers 2"] [--out FILE] [--gpu]

Progress goes to standard error, Markdown tables to standard output. Exit status: 0, whether or not the bars hold; 1 if
an answer was wrong or a request failed; 2 if something the benchmark needs is missing; 3 with --gpu and no GPU.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks.conditions import conditions, cores, versions
from benchmarks.service.contest import Contest
from benchmarks.service.gpu import gpu_obstacle
from benchmarks.service.line_up import CONTESTANTS, OURS, RAW, Interpreters
from benchmarks.service.load import LoadError, check_wrk
from benchmarks.service.results import Results
from benchmarks.service.tables import render
from benchmarks.service.workloads import WORKLOADS

NO_GPU = 3
GPU_BATCHES = (1, 8, 16, 32)


def main() -> int:
    """Run the benchmark and return the exit status."""
    given = _arguments()
    try:
        wrk = check_wrk()
    except LoadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if given.gpu and (obstacle := gpu_obstacle(given.service_python)):
        print(f"bench --gpu: {obstacle}; nothing was measured on a GPU here")
        return NO_GPU
    pythons = Interpreters(given.service_python, given.bench_python)
    found = conditions(_command(sys.argv[1:]))
    found |= {"wrk": wrk, "seconds_a_measurement": given.seconds, "rounds": given.rounds}
    found["packages_of_the_service"] = versions(pythons.service)
    if {"fastapi", "litserve"} & set(given.only):
        found["packages_of_FastAPI_and_LitServe"] = versions(pythons.bench)
    if given.gpu:
        found["device"] = "GPU: the service with QUARTERTURN_DEVICE=cuda, (a) on the CUDA provider"
    contest = Contest(
        contestants=given.only,
        workloads=[WORKLOADS[name] for name in given.workload],
        connections=given.connections,
        seconds=given.seconds,
        trial_seconds=given.trial_seconds,
        pythons=pythons,
        cores=cores(),
        results=Results(found),
        serve_options=shlex.split(given.serve_options),
        cuda=given.gpu,
        batches=GPU_BATCHES if given.gpu else (1, 4, 8),
    )
    contest.try_variants()
    for number in range(given.rounds):
        contest.run_round(number)
    if OURS in given.only:
        contest.time_to_ready(given.starts)
    if given.out:
        contest.results.save(given.out)
    print(render(contest.results), end="")
    return 1 if contest.results.wrong else 0


def _arguments() -> argparse.Namespace:
    lines = (__doc__ or "").splitlines()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description=lines[0])
    parser.add_argument(
        "--quick", action="store_true", help="a few minutes: 1 round of 2 seconds, 1 and 16 connections, PNG"
    )
    parser.add_argument("--only", type=_names(CONTESTANTS), help=f"contestants: {', '.join(CONTESTANTS)}")
    parser.add_argument("--workload", type=_names(WORKLOADS), help=f"workloads: {', '.join(WORKLOADS)}")
    parser.add_argument("--connections", type=lambda text: [int(count) for count in text.split(",")], help="1,4,16")
    parser.add_argument("--seconds", type=int, help="of one measurement; 5")
    parser.add_argument("--trial-seconds", type=int, help="of one trial; 2, more where a run takes a second")
    parser.add_argument("--rounds", type=int, help="3")
    parser.add_argument("--starts", type=int, help="starts of our service and of an empty one, timed; 5")
    parser.add_argument("--serve-options", default="", help="options of `quarterturn serve`; none: as a user starts it")
    parser.add_argument("--service-python", type=Path, default=Path(sys.executable), help="of the serving environment")
    parser.add_argument("--bench-python", type=Path, default=Path(sys.executable), help="of FastAPI's and LitServe's")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--gpu", action="store_true", help="(a) and (b) on the GPU")
    given = parser.parse_args()
    usual = {
        "only": [RAW, OURS] if given.gpu else list(CONTESTANTS),
        "workload": [name for name in WORKLOADS if not given.quick or name.endswith("png")],
        "connections": [1, 16] if given.quick else [1, 4, 16, 64] if given.gpu else [1, 4, 16],
        "seconds": 2 if given.quick else 5,
        "trial_seconds": 1 if given.quick else 2,
        "rounds": 1 if given.quick else 3,
        "starts": 2 if given.quick else 5,
    }
    for name, value in usual.items():
        if getattr(given, name) is None:
            setattr(given, name, value)
    return given


def _command(arguments: Sequence[str]) -> list[str]:
    """Return the command that repeats this run, without the paths of this machine."""
    kept: list[str] = []
    given = iter(arguments)
    for argument in given:
        name, _, value = argument.partition("=")
        if name not in ("--out", "--service-python", "--bench-python"):
            kept.append(argument)
        elif not value:
            next(given, None)
    return ["make", "bench", *([f"BENCH={shlex.quote(shlex.join(kept))}"] if kept else [])]


def _names(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Return what reads names separated by commas, each one of those known."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return read


if __name__ == "__main__":
    sys.exit(main())
