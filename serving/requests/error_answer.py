"""Error answer: what a client gets of an ApiError."""

from __future__ import annotations

from starlette.responses import JSONResponse

from serving.errors import ApiError


def error_response(error: ApiError) -> JSONResponse:
    """Return the HTTP answer of an error."""
    return JSONResponse(error.body(), status_code=error.status, headers=error.headers)
