"""Unread answers: how many bytes of them all connections keep together, where clients do not read."""

from __future__ import annotations

import asyncio

UNREAD_BYTES = 32 * 1024 * 1024


class UnreadAnswers:
    """The connections of a process that have more to send than their clients take, the longest standing first.

    While they hold more than UNREAD_BYTES, all but the last are broken off in that order: many clients that do not read
    cost those their answers, and nobody else theirs. What a connection holds is what it held when it came to stand, for
    uvicorn sends no more before the client has read; the answer to a next request may wait beside it. Less than 64 KiB,
    asyncio's own mark, does not count.
    """

    def __init__(self) -> None:
        self._held: dict[asyncio.Transport, int] = {}
        self._bytes = 0

    def add(self, connection: asyncio.Transport) -> None:
        """Count a connection that has come to stand."""
        self.remove(connection)
        self._held[connection] = connection.get_write_buffer_size()
        self._bytes += self._held[connection]
        while self._bytes > UNREAD_BYTES and len(self._held) > 1:
            longest = next(iter(self._held))
            self.remove(longest)
            longest.abort()

    def remove(self, connection: asyncio.Transport) -> None:
        """Forget a connection that goes on or has ended, where it is counted."""
        self._bytes -= self._held.pop(connection, 0)
