"""Interrupts: Ctrl-C ends a command in order, however often it is pressed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_interrupt() -> Iterator[None]:
    """Let the first SIGINT raise KeyboardInterrupt and ignore those that follow; to be used in the main thread.

    What is under way ends in a moment. A second interrupt would leave its threads to the end of the interpreter, where
    ONNX Runtime's make the process abort.
    """

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
