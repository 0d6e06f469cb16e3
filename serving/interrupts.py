"""Interrupts: Ctrl-C ends a command in order, however often it is pressed."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 5.0


@contextmanager
def one_interrupt() -> Iterator[None]:
    """Let a SIGINT raise KeyboardInterrupt and ignore those of the next seconds; to be used in the main thread.

    What is under way ends in a moment. An interrupt of that would leave its threads to the end of the interpreter,
    where ONNX Runtime's make the process abort. One that comes after PATIENCE seconds counts again, as something hangs.
    Where SIGINT is ignored, as in a job in the background, it stays so.
    """
    if (before := signal.getsignal(signal.SIGINT)) in (signal.SIG_IGN, None):
        yield
        return
    first = -math.inf

    def interrupt(*_: object) -> None:
        nonlocal first
        now = time.monotonic()
        if now - first > PATIENCE:
            first = now
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
