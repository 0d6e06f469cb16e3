"""Joined writes: the head of an answer goes to the socket together with the first piece of its body.

uvicorn writes them one after the other: two calls of the system, and a client that is woken for the head alone.
"""

from __future__ import annotations

import asyncio

_INTERIM = b"HTTP/1.1 1"  # such as 100 Continue: it is not the head of the answer, and the client waits for it


class JoinedWrites:
    """What one connection's answers, one after the other, are written to; in place of its transport.

    The head waits for the next write, or for the end of the answer or of the connection.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self._is_begun = False

    def write(self, data: bytes) -> None:
        """Write a piece of an answer, of which the first is the head."""
        if self._is_begun or data.startswith(_INTERIM):
            self._flush(data)
        else:
            self._is_begun = True
            self._head = data

    def end(self) -> None:
        """End the answer; the next write is the head of another."""
        self._flush()
        self._is_begun = False

    def close(self) -> None:
        """Close the connection once what is written has been sent."""
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Say whether the connection is closed or being closed."""
        return self._transport.is_closing()

    def _flush(self, data: bytes = b"") -> None:
        head, self._head = self._head, b""
        if head or data:
            self._transport.write(head + data)
