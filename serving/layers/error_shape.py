"""Error shape: an ASGI layer that gives every refusal, the framework's own included, the one error shape of the API.

Unknown paths, wrong methods, timeouts and faults are answered by Starlette and BentoML in shapes of their own (plain
text, a list, ``{"error": "..."}``); a client of this API meets one shape only, and no text of a framework.
"""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import ApiError
from serving.requests.error_answer import error_response

_KEPT_HEADERS = (b"allow", b"retry-after", b"server")
# BentoML's access log, where its configuration turns it on, reads these as UTF-8 and fails on anything else.
_TEXT_HEADERS = (b"content-type", b"content-length")
_MEANINGS = {
    404: ("not_found", "there is nothing at this path; GET /models lists the models, /docs.json describes the API"),
    405: ("method_not_allowed", "this path does not take this method"),
    413: ("request_too_large", "the request is too large"),
    415: ("unsupported_media_type", "this media type is not taken here"),
    429: ("busy", "too many requests at once; try again"),
    503: ("not_ready", "the service is not ready; try again"),
    504: ("timeout", "the request took too long"),
}


class ErrorShape:
    """Wraps an ASGI app: an HTTP answer of status 400 or above whose body is not in the shape gets one that is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app; hold back an answer of status 400 or above until its body is there to be judged.

        What the app raises is passed on, for the server to log, after an answer of status 500 where none has begun.
        """
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        for name, value in scope["headers"]:
            if name in _TEXT_HEADERS and not value.isascii():
                error = ApiError(400, "bad_header", f"the header {name.decode()} holds bytes that are not ASCII")
                await error_response(error)(scope, receive, send)
                return
        refusal: MutableMapping[str, Any] | None = None
        body = bytearray()
        begun = False

        async def watch(message: Message) -> None:
            nonlocal refusal, begun
            if message["type"] == "http.response.start" and message["status"] >= 400:
                refusal = message
            elif refusal is None:
                begun = True
                await send(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    begun = True
                    await _send_refusal(refusal, bytes(body), scope, receive, send)

        try:
            await self.app(scope, receive, watch)
        except Exception:
            if not begun:
                await _send_refusal({"status": 500}, b"", scope, receive, send)
            raise


async def _send_refusal(start: Message, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
    if _has_shape(body):
        await send(start)
        await send({"type": "http.response.body", "body": body})
        return
    status = start["status"]
    fallback = ("bad_request", "the request is not understood") if status < 500 else ("internal_error", "a fault here")
    code, message = _MEANINGS.get(status, fallback)
    kept = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in start.get("headers", [])
        if name.lower() in _KEPT_HEADERS
    }
    await error_response(ApiError(status, code, message, headers=kept))(scope, receive, send)


def _has_shape(body: bytes) -> bool:
    try:
        error = json.loads(body)["error"]
        return isinstance(error["code"], str) and isinstance(error["message"], str)
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
