from __future__ import annotations

import asyncio

from serving.layers.queued_requests import HeldReading


class Transport(asyncio.Transport):
    """Notes whether it is read."""

    is_read = True

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True


def test_nothing_is_read_while_a_request_waits() -> None:
    """uvicorn resumes at the end of each answer, and each time that a request asks for more of its body."""

    async def read() -> None:
        transport, queue = Transport(), ["a request"]
        flow = HeldReading(transport, queue)
        flow.pause_reading()
        flow.resume_reading()
        assert not transport.is_read
        queue.clear()
        flow.resume_reading()
        assert transport.is_read

    asyncio.run(read())
