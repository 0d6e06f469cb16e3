"""API keys: an ASGI layer that refuses requests without the server's key, where it has one."""

from __future__ import annotations

import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import ApiError
from serving.requests.error_answer import error_response

# What answers without a key: health checks, and the pages, which ask a person for it, with the document that one of
# them shows: it is the same for every server.
_OPEN_PATHS = ("/livez", "/readyz", "/healthz", "/", "/docs.json", "/demo")
_OPEN_FOLDERS = ("/demo/", "/api_page/", "/static_content/")
_BEARER = b"bearer "


class ApiKey:
    """Wraps an ASGI app: 401 for a request that does not bring ``key`` (X-API-Key, or Authorization: Bearer).

    The comparison takes the same time wherever a wrong key differs.
    """

    def __init__(self, app: ASGIApp, key: str) -> None:
        self.app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http" or _is_open(scope["path"]) or self._has_key(scope):
            await self.app(scope, receive, send)
            return
        error = ApiError(401, "unauthorized", "bring the API key as X-API-Key", headers={"WWW-Authenticate": "Bearer"})
        await error_response(error)(scope, receive, send)

    def _has_key(self, scope: Scope) -> bool:
        brought = False
        for name, value in scope["headers"]:
            if name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER:
                brought |= hmac.compare_digest(value[len(_BEARER) :].strip(), self._key)
            elif name == b"x-api-key":
                brought |= hmac.compare_digest(value.strip(), self._key)
        return brought


def _is_open(path: str) -> bool:
    return path in _OPEN_PATHS or path.startswith(_OPEN_FOLDERS)
