"""The load generator: wrk, run as a process of its own, and what it measured."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("multipart.lua")
REQUEST_TIMEOUT_SECONDS = 30
_MARK = "wrk-result "


class LoadError(RuntimeError):
    """wrk is missing, or did not run to its end."""


@dataclass(frozen=True)
class Load:
    """One run of wrk. Latencies in milliseconds, of all answers; ``failed``: answers that were not 2xx or 3xx, and
    connections that broke or timed out. ``requests_per_second`` are those answered well. ``cpu_seconds`` are wrk's own.
    """

    requests_per_second: float
    p50: float
    p95: float
    p99: float
    answered: int
    failed: int
    seconds: float
    cpu_seconds: float


def check_wrk() -> str:
    """Return wrk's version. Raises LoadError, with what to install, where there is none."""
    path = shutil.which("wrk")
    if path is None:
        raise LoadError(
            "the benchmark needs the load generator wrk: apt-get install wrk (Debian, Ubuntu), brew install wrk"
        )
    first = subprocess.run([path, "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    return first.partition(" [")[0].removeprefix("wrk ").removeprefix("debian/")


def run_wrk(url: str, body: bytes, content_type: str, connections: int, seconds: float) -> Load:
    """POST ``body`` to ``url`` over so many connections, each in a closed loop.

    For ``seconds``, whole ones and 1 at least. Raises LoadError.
    """
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        command = [
            "wrk",
            "--threads",
            "1",
            "--connections",
            str(connections),
            "--duration",
            f"{max(1, round(seconds))}s",
        ]
        command += [
            "--timeout",
            f"{REQUEST_TIMEOUT_SECONDS}s",
            "--script",
            str(SCRIPT),
            url,
            "--",
            file.name,
            content_type,
        ]
        before = _children_cpu()
        done = subprocess.run(command, capture_output=True, text=True)
        cpu = _children_cpu() - before
    if done.returncode != 0:
        raise LoadError(f"wrk ended with status {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}")
    return parse(done.stdout, cpu)


def parse(output: str, cpu_seconds: float) -> Load:
    """Read the line that SCRIPT prints. Raises LoadError where there is none."""
    lines = [line for line in output.splitlines() if line.startswith(_MARK)]
    if len(lines) != 1:
        raise LoadError(f"wrk printed no result: {output.strip()[-500:]!r}")
    found = json.loads(lines[0].removeprefix(_MARK))
    seconds = found["duration_us"] / 1e6
    broken = sum(found[kind] for kind in ("connect_errors", "read_errors", "write_errors", "timeouts"))
    good = found["requests"] - found["status_errors"]
    return Load(
        requests_per_second=good / seconds,
        p50=found["p50_us"] / 1e3,
        p95=found["p95_us"] / 1e3,
        p99=found["p99_us"] / 1e3,
        answered=good,
        failed=found["status_errors"] + broken,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
    )


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
