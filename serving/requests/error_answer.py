"""Error answer: what a client gets of an ApiError."""

from __future__ import annotations

from serving.errors import ApiError
from serving.requests.json_answer import JsonAnswer


def error_response(error: ApiError) -> JsonAnswer:
    """Return the HTTP answer of an error."""
    return JsonAnswer(error.body(), status_code=error.status, headers=error.headers)
