"""Shortcut: an ASGI layer that answers the API's two POST addresses before BentoML's middleware sees them.

BentoML's tracing, timeout and context, and the way it calls a method, cost much beside a small request
(docs/decisions/0017); what of it these addresses need, this project does itself (request_log, metrics, endpoints).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Endpoint = Callable[[Request], Awaitable[Response]]


class Shortcut:
    """Wraps an ASGI app: POST requests to the paths of ``endpoints()`` go there, all else goes to the app.

    ``endpoints`` is asked once, when the app has started: it is the app's start that makes them.
    """

    def __init__(self, app: ASGIApp, endpoints: Callable[[], Mapping[str, Endpoint]]) -> None:
        self.app = app
        self._find_endpoints = endpoints
        self._endpoints: Mapping[str, Endpoint] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or pass it on."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in self._endpoints:
            response = await self._endpoints[scope["path"]](Request(scope, receive))
            await response(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self.app(scope, receive, self._until_started(send))
        else:
            await self.app(scope, receive, send)

    def _until_started(self, send: Send) -> Send:
        async def watch(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._endpoints = self._find_endpoints()
            await send(message)

        return watch
