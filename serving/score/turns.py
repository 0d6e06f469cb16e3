"""Turns at reading: one thread at a time reads and decodes files, as long as the graphs have enough to do.

Two that decode small files at the same time hand Python's lock to and fro at every file, and get less done together
than one by itself: with a light graph on two cores scoring took 1 % longer. Where a graph waits, several are faster
after all: with large images, whose decoding needs no lock, with a slow disk, or when a run begins.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """For any thread. ``enough``: so many batches, running or ready to run, keep the graphs busy."""

    def __init__(self, enough: int) -> None:
        self._enough = enough
        self._readers = 0
        self._ready = 0
        self._changed = threading.Condition()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn to read a batch, which is ready to run at the end."""
        with self._changed:
            self._changed.wait_for(lambda: not self._readers or self._ready < self._enough)
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._ready += 1
                self._changed.notify_all()

    def has_run(self) -> None:
        """Say that a batch has run."""
        with self._changed:
            self._ready -= 1
            self._changed.notify_all()
