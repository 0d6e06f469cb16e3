from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Message

from serving.error_shape import ErrorShape, error_response
from serving.errors import ApiError


def answer(response: Response) -> tuple[int, dict[str, str], bytes]:
    """Send one request through the layer around an app that answers ``response``."""
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    asyncio.run(
        ErrorShape(response)(
            {"type": "http", "method": "GET", "headers": [], "asgi": {"spec_version": "2.4"}}, receive, send
        )
    )
    start, *rest = sent
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], headers, b"".join(message.get("body", b"") for message in rest)


@pytest.mark.parametrize("status", [400, 404, 405, 413, 415, 418, 429, 500, 502, 503, 504])
@pytest.mark.parametrize(
    "content", [b"Not Found", b"", b'[{"error": "x"}]', b'{"error": "x"}', b'{"error": {"code": 1}}', b"\xff"]
)
def test_every_refusal_gets_the_shape(status: int, content: bytes) -> None:
    given, headers, body = answer(Response(content, status_code=status, media_type="text/plain"))
    assert given == status
    assert headers["content-type"] == "application/json"
    assert int(headers["content-length"]) == len(body)
    error = json.loads(body)["error"]
    assert error.keys() == {"code", "message"}
    assert (error["code"] == "internal_error") == (status in (500, 502))


def test_a_stack_trace_does_not_leave() -> None:
    _, _, body = answer(PlainTextResponse("Traceback (most recent call last): secret", 500))
    assert b"Traceback" not in body
    assert b"secret" not in body


def test_a_refusal_in_the_shape_passes_as_it_is() -> None:
    refusal = ApiError(422, "undecodable_image", "cut off", 3, "a.png", headers={"Retry-After": "1"})
    status, headers, body = answer(error_response(refusal))
    assert (status, headers["retry-after"]) == (422, "1")
    assert json.loads(body) == refusal.body()


def test_the_methods_allowed_are_kept() -> None:
    _, headers, _ = answer(PlainTextResponse("Method Not Allowed", 405, headers={"Allow": "POST"}))
    assert headers["allow"] == "POST"


def test_an_answer_that_is_no_refusal_passes_unheld() -> None:
    async def pieces() -> Any:
        yield b"one "
        yield b"two"

    assert answer(StreamingResponse(pieces()))[2] == b"one two"
    status, headers, body = answer(JSONResponse({"error": "no refusal"}, headers={"X-Kept": "yes"}))
    assert (status, headers["x-kept"], body) == (200, "yes", b'{"error":"no refusal"}')
