"""A server that is measured: when it has nothing left to do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.processes import Server

WORK_THEN_WAIT = """
import sys, time
until = time.process_time() + 1
while time.process_time() < until: pass
print("done", flush=True)
sys.stdin.read()
"""


def test_a_server_is_settled_once_its_work_is_done() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WORK_THEN_WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        server = Server(process, 0, 0.0, Path(os.devnull))
        while not server.cpu_seconds() > 0.1:
            time.sleep(0.01)
        server.settle()
        assert server.cpu_seconds() >= 1
        assert process.stdin is not None
        process.stdin.close()
