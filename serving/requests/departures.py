"""Departures: a request whose client has gone while it waits is given up, so that no run is spent on it.

A client that loses patience and asks again would otherwise have its work done twice, the more the fuller the server is.
To look costs the event loop time; so only requests that wait long are looked at, now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.requests import Request

LOOK_SECONDS = 0.5
# What nginx logs for a client that closed its connection; HTTP has no status for it, and nobody is there to read it.
CLIENT_GONE_STATUS = 499


class ClientGoneError(Exception):
    """The client closed its connection before its answer was there."""


@dataclass(eq=False)
class _Waiting:
    request: Request
    task: asyncio.Task[object]
    since: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    has_gone: bool = False


class Departures:
    """Looks after the requests of one event loop, every LOOK_SECONDS at those that have waited so long."""

    def __init__(self) -> None:
        self._waiting: set[_Waiting] = set()
        self._watch: asyncio.Task[None] | None = None

    @contextmanager
    def watched(self, request: Request) -> Iterator[None]:
        """Watch a request, read to its end, while this block waits. Raises ClientGoneError where its client leaves."""
        task = asyncio.current_task()
        assert task is not None
        one = _Waiting(request, task)
        self._waiting.add(one)
        if self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._look_until_none_waits())
        try:
            yield
        except asyncio.CancelledError:
            if not one.has_gone or task.uncancel() > 0:
                raise
            raise ClientGoneError from None
        finally:
            self._waiting.discard(one)

    async def _look_until_none_waits(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(LOOK_SECONDS)
                await self._look()
        finally:
            self._watch = None

    async def _look(self) -> None:
        before = asyncio.get_running_loop().time() - LOOK_SECONDS
        for one in [one for one in self._waiting if one.since <= before and not one.has_gone]:
            if await one.request.is_disconnected() and one in self._waiting:
                one.has_gone = True
                one.task.cancel()
