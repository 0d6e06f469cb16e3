from __future__ import annotations

import os
import signal
import time

import pytest

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
