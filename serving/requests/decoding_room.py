"""Decoding room: how much memory the images that are decoded at a time may take; the next ones wait for theirs."""

from __future__ import annotations

import asyncio
import threading
from collections import deque

# What takes no more, a megapixel or so, is not counted and never waits: there are no more of them than threads.
UNCOUNTED_BYTES = 4 * 1024 * 1024


class DecodingRoom:
    """Counts bytes for one worker; for any thread but ``take``, which is for the event loop.

    First come, first served, so that a large image is not passed for ever by small ones; one larger than ``max_bytes``
    is let in alone. What is taken is given back once.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._taken = 0
        self._waiting: deque[_Waiting] = deque()

    def try_take(self, size: int) -> bool:
        """Take room where there is some and nobody waits for it."""
        if size <= UNCOUNTED_BYTES:
            return True
        with self._lock:
            fits = not self._waiting and self._fits(size)
            if fits:
                self._taken += size
            return fits

    async def take(self, size: int) -> None:
        """Take room, when it is there; one who is cancelled takes none."""
        waiting = _Waiting(size)
        with self._lock:
            self._waiting.append(waiting)
            self._let_in()
        try:
            await waiting.turn
        except asyncio.CancelledError:
            with self._lock:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)
                else:
                    self._taken -= size
                self._let_in()
            raise

    def give_back(self, size: int) -> None:
        """Give back what was taken, and let in who waits."""
        if size <= UNCOUNTED_BYTES:
            return
        with self._lock:
            self._taken -= size
            self._let_in()

    def _fits(self, size: int) -> bool:
        return not self._taken or self._taken + size <= self._max_bytes

    def _let_in(self) -> None:
        while self._waiting and self._fits(self._waiting[0].size):
            first = self._waiting.popleft()
            self._taken += first.size
            first.loop.call_soon_threadsafe(first.come_in)


class _Waiting:
    """One who waits for ``size`` bytes on the running event loop, until its ``turn``."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.loop = asyncio.get_running_loop()
        self.turn: asyncio.Future[None] = self.loop.create_future()

    def come_in(self) -> None:
        """Let it go on, unless it has given up."""
        if not self.turn.done():
            self.turn.set_result(None)
