from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serving.processes.hangups import POSSIBLE

pytestmark = pytest.mark.skipif(not POSSIBLE, reason="no SIGHUP on this system")

# A child that does not expect SIGHUP gets it at once, and has a handler only later.
HELD = """
import os, signal, subprocess, sys
from serving.processes.hangups import hold_hangups, release_hangups
if sys.argv[1:]:
    os.kill(os.getpid(), signal.SIGHUP)
    signal.signal(signal.SIGHUP, lambda *_: print("handled", flush=True))
    print("handler is there", flush=True)
    release_hangups()
else:
    hold_hangups()
    subprocess.run([sys.executable, __file__, "child"], check=True)
"""

ACTS = """
import os, signal, sys, threading, time
from serving.processes.hangups import HangupThread, hold_hangups
acted = threading.Semaphore(0)
def act():
    acted.release()
    raise RuntimeError("once")
open_thread = threading.Thread(target=time.sleep, args=(60,), daemon=True)
if sys.argv[1:]:
    open_thread.start()  # SIGHUP is not held there
hold_hangups()
hangups = HangupThread(act)
signal.signal(signal.SIGHUP, hangups.pass_on)
hangups.start()
for _ in range(3):
    os.kill(os.getpid(), signal.SIGHUP)
    deadline = time.monotonic() + 30
    while not acted.acquire(blocking=False):
        assert time.monotonic() < deadline
        time.sleep(0.01)
"""


def test_a_child_gets_it_once_it_is_ready(tmp_path: Path) -> None:
    script = tmp_path / "held.py"
    script.write_text(HELD)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, env=_environment())
    assert (done.returncode, done.stdout.split("\n")) == (0, ["handler is there", "handled", ""]), done.stderr


@pytest.mark.parametrize("threads", ["", "other threads"])
def test_the_thread_acts_at_each_and_outlives_a_failure(threads: str) -> None:
    command = [sys.executable, "-c", ACTS, *filter(None, [threads])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=_environment())
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("RuntimeError: once") == 3


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}


def test_it_is_held_nowhere_in_the_tests() -> None:
    assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, set())
