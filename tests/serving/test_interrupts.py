from __future__ import annotations

import os
import signal
import time

import pytest

from serving.interrupts import one_interrupt


def test_the_first_interrupt_counts_and_what_ends_meanwhile_is_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), one_interrupt():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            ended = time.monotonic()
            time.sleep(0.05)
    assert time.monotonic() - ended >= 0.05
    assert signal.getsignal(signal.SIGINT) is before
