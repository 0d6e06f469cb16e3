"""Request log: an ASGI layer that numbers, times and counts requests, and writes the access log where it is wanted.

Every answer carries ``X-Request-ID``: the client's own where it is a plain word, else a new one. Lines of the log that
are written during a request carry it too, where the log is JSON.
"""

from __future__ import annotations

import logging
import random
import re
import time
from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.metrics import metrics

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

_PLAIN_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_ENDPOINTS = frozenset(
    ("/classify", "/anomaly_score", "/models", "/demo", "/metrics", "/livez", "/readyz", "/healthz", "/docs.json", "/")
)

logger = logging.getLogger(__name__)
_numbers = random.Random()  # a number is no secret; the system's own randomness costs a call of the system each time


class RequestLog:
    """Wraps an ASGI app. ``access_log``: one line a request, of its method, path, status and milliseconds."""

    def __init__(self, app: ASGIApp, *, access_log: bool) -> None:
        self.app = app
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with its number; count it once its answer has begun, or as a 500 where none has."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        name = _given_id(scope) or b"%032x" % _numbers.getrandbits(128)
        token = request_id.set(name.decode())
        status = 500

        async def numbered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", name)]}
            await send(message)

        try:
            await self.app(scope, receive, numbered)
        finally:
            self._count(scope, status, time.perf_counter() - started)
            request_id.reset(token)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        path = scope["path"]
        endpoint = path if path in _ENDPOINTS else "other"
        metrics().requests.labels(endpoint, str(status)).inc()
        metrics().seconds.labels(endpoint).observe(seconds)
        if self._access_log:
            client = scope["client"][0] if scope.get("client") else "-"
            logger.info("%s %s %s %d %.1f ms", client, scope["method"], path, status, seconds * 1000)


def _given_id(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _PLAIN_ID.fullmatch(value):
            return bytes(value)
    return None
