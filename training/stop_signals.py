"""Ctrl-C and SIGTERM as a request to stop at the next checkpoint instead of at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class StopRequest:
    """Whether a stop was asked for."""

    made: bool = False


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """While inside, the first SIGINT and the first SIGTERM make the request; a second one acts as it did before.

    Outside the main thread, where signals cannot be had, nothing changes.
    """
    request = StopRequest()
    earlier: dict[int, signal._HANDLER] = {}

    def ask(number: int, _: object) -> None:
        request.made = True
        signal.signal(number, earlier[number])

    try:
        for stop in (signal.SIGINT, signal.SIGTERM):
            earlier[stop] = signal.getsignal(stop) or signal.SIG_DFL
            signal.signal(stop, ask)
    except ValueError:  # not the main thread
        earlier.clear()
    try:
        yield request
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
