from __future__ import annotations

import os
import signal
import time

import pytest

from serving import interrupts
from serving.interrupts import one_interrupt


def test_the_first_interrupt_counts_and_what_ends_meanwhile_is_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    ended: list[str] = []

    def interrupted_twice() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            ended.append("in order")

    with one_interrupt(), pytest.raises(KeyboardInterrupt):
        interrupted_twice()
    assert ended == ["in order"]
    assert signal.getsignal(signal.SIGINT) is before


def test_one_that_comes_much_later_counts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "PATIENCE", 0.0)
    with one_interrupt():
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                _interrupt()


def test_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with one_interrupt():
            _interrupt()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)
