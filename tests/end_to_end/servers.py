"""Server processes that tests start: ready when they say so, gone at the end, with all their children."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

START_SECONDS = 180


@contextmanager
def running(command: list[str], port: int, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a server in a process group of its own until it is ready; stop the whole group at the end."""
    process = subprocess.Popen(command, text=True, start_new_session=True, **options)
    try:
        _wait_until_ready(process, port)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            for child in psutil.Process(process.pid).children(recursive=True):  # workers lead groups of their own
                child.kill()
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_ready(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, f"{process.args!r} ended with status {process.returncode}"
        assert time.monotonic() < deadline, f"{process.args!r} is not ready after {START_SECONDS} seconds"
        try:
            with urllib.request.urlopen(f"http://localhost:{port}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
