"""A freshly started server under load, for as long as memory and open files need to show whether they grow.

    python -m benchmarks.soak [--seconds 300] [--serve-options "--workers 2"]    a mix of good, bad, huge, slow, aborted
    python -m benchmarks.soak --requests 100000                                  good requests, as fast as they go (wrk)

Prints a Markdown summary. Exit status: 0 if all is right, 1 if anything is not, 2 if wrk is missing.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from benchmarks.conditions import conditions
from benchmarks.service.load import LoadError, check_wrk
from benchmarks.service.workloads import MODELS
from benchmarks.soak.session import soak

# By what share of its median a worker's memory may grow while it is judged.
GROWTH_LIMIT = 0.05


def main() -> int:
    """Run the soak and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300.0, help="of mixed load; 300")
    parser.add_argument("--requests", type=int, help="so many good requests through wrk instead")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the graphs; models/")
    parser.add_argument("--serve-options", default="", help="further options of `quarterturn serve`")
    given = parser.parse_args()
    if given.requests:
        try:
            check_wrk()
        except LoadError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    asked = f"--requests {given.requests}" if given.requests else f"--seconds {given.seconds:g}"
    report = soak(
        seconds=given.seconds,
        requests=given.requests,
        growth_limit=GROWTH_LIMIT,
        models=given.models,
        serve_options=shlex.split(given.serve_options),
        conditions=conditions(["make", "soak", f"SOAK={shlex.quote(asked)}"]),
    )
    print(report.markdown(), end="")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
