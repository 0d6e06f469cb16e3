"""Queued requests: those that a client sends on a connection before the one before has its answer (HTTP pipelining).

uvicorn queues as many as come, and reads on after each answer and whenever a request waits for its body: a connection
could grow by twenty times what it sends, uncounted. Here nothing more is read while a request is in the queue, and one
read may bring MAX_QUEUED at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sized

from uvicorn.protocols.http.flow_control import FlowControl

MAX_QUEUED = 8


class HeldReading(FlowControl):
    """uvicorn's flow control of a connection, which does not go on to read while ``queue`` holds a request.

    The body of the request under way is complete then, so it waits for nothing; but that its client has left is seen
    only once the queue is empty.
    """

    def __init__(self, transport: asyncio.Transport, queue: Sized) -> None:
        super().__init__(transport)
        self._queue = queue

    def resume_reading(self) -> None:
        """Read on, if no request waits."""
        if not self._queue:
            super().resume_reading()
