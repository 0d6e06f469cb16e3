"""Starting a job's process, and what its log says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from signal import Signals
from typing import IO

from training.reproduce.jobs import LOG_FILE, Job

_SECONDS_TO_STOP = 60.0
_TAIL_BYTES = 4096


def start_process(
    job: Job, data: Path, runs: Path, deadline: float | None, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Start the job with ``environment`` over this process's own; what it says is added to RUNS/NAME/log.txt.

    It stops at a checkpoint on SIGTERM, and when its standard input, a pipe from here, is closed.
    """
    log = log_path(job, runs)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "training.reproduce.run_job", json.dumps(asdict(job))]
    command += ["--data", str(data), "--out", str(runs)]
    if deadline is not None:
        command += ["--deadline", str(deadline)]
    root = str(Path(__file__).resolve().parents[2])  # the code of this very process, wherever it was imported from
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # Ctrl-C reaches the sweep alone, which then stops its jobs
        )


def stop_process(process: subprocess.Popen[bytes]) -> None:
    """Stop a job at a checkpoint and wait for that; kill it if that takes more than a minute."""
    process.terminate()
    try:
        process.wait(_SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def log_path(job: Job, runs: Path) -> Path:
    """Return where a job's log is."""
    return runs / job.name / LOG_FILE


def add_line(log: Path, line: str) -> None:
    """Add a line to a job's log, where that can be written."""
    with suppress(OSError), log.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def reason_of(status: int, log: Path) -> str:
    """Return in a line why a job failed that ended with ``status``, below 0 if a signal killed it.

    The last line of its log is the reason if the job came to give one, else it is how far the job was.
    """
    said = last_line(log)
    if status > 0 and said.startswith("error: "):
        return said
    ended = f"killed by {_signal_name(-status)}" if status < 0 else f"ended with status {status} and gave no reason"
    return f"{ended}; its log ends with: {said}" if said else ended


def _signal_name(number: int) -> str:
    names = {signal.value: signal.name for signal in Signals}
    memory = ", as when the system is out of memory" if number == Signals.SIGKILL else ""
    return f"signal {number} ({names.get(number, 'unknown')}{memory})"


def last_line(path: Path) -> str:
    """Return the last line of a log that is not empty; '' if there is none."""
    try:
        with path.open("rb") as file:
            return _last_line(file)
    except OSError:
        return ""


def _last_line(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""
