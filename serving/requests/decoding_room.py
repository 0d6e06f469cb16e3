"""Decoding room: how much memory the images that are decoded at a time may take; the next ones wait for theirs."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

# What takes no more, a megapixel or so, is not counted and never waits: there are no more of them than threads.
UNCOUNTED_BYTES = 4 * 1024 * 1024
_UNCOUNTED = nullcontext()


class DecodingRoom:
    """Counts bytes for one process; for any thread but ``take``, which is for the event loop.

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
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        waiting = self._wait(size, lambda: loop.call_soon_threadsafe(_end, turn))
        try:
            await turn
        except asyncio.CancelledError:
            with self._lock:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)
                else:
                    self._taken -= size
                self._let_in()
            raise

    def room_for(self, size: int) -> AbstractContextManager[None]:
        """Take room, when it is there, and give it back at the end. Blocking: for threads that decode."""
        return _UNCOUNTED if size <= UNCOUNTED_BYTES else self._counted_room(size)

    @contextmanager
    def _counted_room(self, size: int) -> Iterator[None]:
        if not self.try_take(size):
            turn = threading.Event()
            self._wait(size, turn.set)
            turn.wait()
        try:
            yield
        finally:
            self.give_back(size)

    def give_back(self, size: int) -> None:
        """Give back what was taken, and let in who waits."""
        if size <= UNCOUNTED_BYTES:
            return
        with self._lock:
            self._taken -= size
            self._let_in()

    def _wait(self, size: int, come_in: Callable[[], object]) -> _Waiting:
        waiting = _Waiting(size, come_in)
        with self._lock:
            self._waiting.append(waiting)
            self._let_in()
        return waiting

    def _fits(self, size: int) -> bool:
        return not self._taken or self._taken + size <= self._max_bytes

    def _let_in(self) -> None:
        while self._waiting and self._fits(self._waiting[0].size):
            first = self._waiting.popleft()
            self._taken += first.size
            try:
                first.come_in()
            except RuntimeError:  # its event loop has ended, and with it the request
                self._taken -= first.size


@dataclass(frozen=True, eq=False)
class _Waiting:
    """One who waits for ``size`` bytes; ``come_in`` tells that one, from any thread, that they are taken."""

    size: int
    come_in: Callable[[], object]


def _end(turn: asyncio.Future[None]) -> None:
    if not turn.done():  # else its owner has given up
        turn.set_result(None)
