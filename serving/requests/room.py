"""Room: how many requests a worker reads and works on, how many bytes it holds for them, and when that is enough.

Held are their bodies, and their images at the sizes of the models that are asked: of few bytes as a file, one may have
150,000 at 224 x 224.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from serving.errors import ApiError

RETRY_AFTER_SECONDS = 1


class Room:
    """Counts for one worker, on its event loop: ``requests`` and ``held_bytes`` of them from arrival to answer."""

    def __init__(self, max_in_flight: int, max_held_bytes: int, max_reading: int) -> None:
        self._max_in_flight = max_in_flight
        self.max_held_bytes = max_held_bytes
        self._max_reading = max_reading
        self.requests = 0
        self.held_bytes = 0
        self._at_work = 0

    def admit(self) -> None:
        """Raise ApiError 503 where there is no room for the request that has come last: to read it or to work on it."""
        if self.requests - self._at_work > self._max_reading:
            raise _busy()
        self.check()

    def check(self) -> None:
        """Raise ApiError 503, with Retry-After, where there is no room to work on another request."""
        if self._at_work >= self._max_in_flight or self.held_bytes > self.max_held_bytes:
            raise _busy()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Count a request as worked on. Raises ApiError 503 where there is no room."""
        self.check()
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1


def _busy() -> ApiError:
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return ApiError(503, "busy", "the server is full; try again", headers=headers)


class Body:
    """The body of a request as it arrives; the room counts it, and what is held for it, until ``release``."""

    def __init__(self, room: Room, stream: AsyncIterator[bytes]) -> None:
        self.is_complete = False
        self._room = room
        self._stream = stream
        self._bytes = 0
        room.requests += 1

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body in pieces. Raises ApiError 503 where it takes the last room, and what the stream does."""
        async for chunk in self._stream:
            self._bytes += len(chunk)
            self._room.held_bytes += len(chunk)
            self._room.check()
            yield chunk
        self.is_complete = True

    def hold_images(self, size: int) -> None:
        """Count ``size`` bytes more, of the request's images as the models take them; to be called before they are.

        Raises ApiError, and counts nothing, where there is no room for them: 503 now, 413 not even for them alone.
        """
        most = self._room.max_held_bytes
        if self._bytes + size > most:
            raise ApiError(
                413,
                "too_many_images",
                f"the images take {size} bytes at the sizes of these models, their files {self._bytes}, and the server "
                f"holds {most} at most; send fewer, or name fewer models",
            )
        if self._room.held_bytes + size > most:
            raise _busy()
        self._bytes += size
        self._room.held_bytes += size

    def release(self) -> None:
        """Give the room back; to be called once."""
        self._room.requests -= 1
        self._room.held_bytes -= self._bytes
