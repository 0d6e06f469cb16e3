"""Given up: a request that has taken too long, or whose client has gone while it waits, so that no run is spent on it.

A client that loses patience and asks again would otherwise have its work done twice, the more the fuller the server is.
All requests of a worker are looked after together, because a timer of its own costs a small one noticeable time; and to
look whether a client is there only those are asked that wait long, now and then.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from starlette.requests import Request

LOOK_SECONDS = 0.5
# What nginx logs for a client that closed its connection; HTTP has no status for it, and nobody is there to read it.
CLIENT_GONE_STATUS = 499


class ClientGoneError(Exception):
    """The client closed its connection before its answer was there."""


class Patience:
    """Looks after the requests of one event loop, each of which has ``max_seconds`` from its ``with`` on."""

    def __init__(self, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._waiting: dict[Waiting, None] = {}  # the longest first
        self._watch: asyncio.Task[None] | None = None

    def waiting(self, request: Request) -> Waiting:
        """Return what to do the work for ``request`` in: ``with patience.waiting(request) as waiting: ...``.

        The block raises TimeoutError where it takes too long, and ClientGoneError where the client leaves after
        ``waiting.is_read`` is set.
        """
        task = asyncio.current_task()
        assert task is not None
        return Waiting(self, request, task, asyncio.get_running_loop().time())

    def begin(self, one: Waiting) -> None:
        """Look after a request from now on."""
        self._waiting[one] = None
        if self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._look_until_none_waits())

    def end(self, one: Waiting) -> None:
        """Look after it no longer."""
        self._waiting.pop(one, None)

    async def _look_until_none_waits(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                left = next(iter(self._waiting)).since + self._max_seconds - loop.time()
                await asyncio.sleep(min(max(left, 0.0), LOOK_SECONDS))
                self._end_overdue(loop.time() - self._max_seconds)
                await self._look_for_clients(loop.time() - LOOK_SECONDS)
        finally:
            self._watch = None

    def _end_overdue(self, before: float) -> None:
        for one in list(self._waiting):
            if one.since > before:
                break
            one.give_up(TimeoutError())

    async def _look_for_clients(self, before: float) -> None:
        for one in list(self._waiting):
            if one.since > before:
                break
            if one.is_read and one in self._waiting and await one.request.is_disconnected() and one in self._waiting:
                one.give_up(ClientGoneError())


class Waiting:
    """One request that waits, as a context manager; ``is_read``: its body has been read to its end."""

    __slots__ = ("_patience", "_reason", "_task", "is_read", "request", "since")

    def __init__(self, patience: Patience, request: Request, task: asyncio.Task[object], since: float) -> None:
        self.request = request
        self.since = since
        self.is_read = False
        self._patience = patience
        self._task = task
        self._reason: Exception | None = None

    def __enter__(self) -> Waiting:
        """Begin to wait."""
        self._patience.begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; raise the reason where that is why the work was cancelled."""
        self._patience.end(self)
        if self._reason is not None and kind is asyncio.CancelledError and self._task.uncancel() <= 0:
            raise self._reason from None

    def give_up(self, reason: Exception) -> None:
        """Cancel the work."""
        self._patience.end(self)
        self._reason = reason
        self._task.cancel()
