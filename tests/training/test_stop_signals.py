"""Stop signals: the first is a request, the second acts as ever, and afterwards all is as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from training.stop_signals import StopRequest, stop_signals

SIGNALS = [signal.SIGINT, signal.SIGTERM]

# Two SIGTERM to itself: the first is survived, the second is not.
TWICE = """
import os, signal
from training.stop_signals import stop_signals

with stop_signals() as stop:
    os.kill(os.getpid(), signal.SIGTERM)
    print("asked" if stop.made else "not asked", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    print("still here", flush=True)
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_a_request(number: signal.Signals) -> None:
    with stop_signals() as stop:
        assert not stop.made
        os.kill(os.getpid(), number)
        assert stop.made


@pytest.mark.parametrize("number", SIGNALS)
def test_afterwards_the_handlers_are_the_earlier_ones(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    with stop_signals():
        assert [signal.getsignal(each) for each in SIGNALS] != before
    assert [signal.getsignal(each) for each in SIGNALS] == before
    with pytest.raises(RuntimeError), stop_signals():  # noqa: PT012 - the request is part of what is tried
        os.kill(os.getpid(), number)
        raise RuntimeError
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_a_second_ctrl_c_interrupts() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell starts without it
    with pytest.raises(KeyboardInterrupt), stop_signals() as stop:  # noqa: PT012 - as above
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.made
        os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_one_signal_leaves_the_other_a_request() -> None:
    with stop_signals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)  # would end this process
        assert stop.made


def test_a_second_sigterm_ends_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True, check=False)
    assert done.stdout == "asked\n"
    assert done.returncode == -signal.SIGTERM


def test_outside_the_main_thread_nothing_changes() -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    seen: list[StopRequest] = []

    def inside() -> None:
        with stop_signals() as stop:
            seen.append(stop)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert [stop.made for stop in seen] == [False]
    assert [signal.getsignal(each) for each in SIGNALS] == before
