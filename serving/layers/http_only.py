"""HTTP only: an ASGI layer that refuses WebSockets, of which this API has none.

The web server offers them to the app all the same, and those for requests (key, log, error shape) do not see them.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

_POLICY_VIOLATION = 1008  # RFC 6455, section 7.4.1


class HttpOnly:
    """Wraps an ASGI app: a WebSocket is closed before it is accepted, which the web server answers with a bare 403.

    It is to be the outermost layer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass requests, and the start and end of the app, on."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": "there are no WebSockets here"})
        else:
            await self.app(scope, receive, send)
