from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import ApiError
from serving.layers.error_shape import ErrorShape
from serving.requests.error_answer import error_response


class _FaultError(Exception):
    pass


def answer(app: ASGIApp, *request_headers: tuple[bytes, bytes]) -> tuple[int, dict[str, str], bytes]:
    """Send one request through the layer around an app (a response is one too)."""
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "headers": request_headers, "asgi": {"spec_version": "2.4"}}
    with suppress(_FaultError):
        asyncio.run(ErrorShape(app)(scope, receive, send))
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


def test_a_fault_of_the_app_is_answered_and_passed_on() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 400, "headers": []})
        raise _FaultError("secret")

    status, _, body = answer(app)
    assert (status, json.loads(body)["error"]["code"]) == (500, "internal_error")
    assert b"secret" not in body
    with pytest.raises(_FaultError):
        asyncio.run(ErrorShape(app)({"type": "http", "headers": []}, _nothing, _nowhere))


def test_a_fault_after_the_answer_has_begun_adds_nothing_to_it() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise _FaultError

    assert answer(app) == (200, {}, b"half")


def test_a_content_type_that_is_not_text_is_refused() -> None:
    status, _, body = answer(Response(b"reached"), (b"content-type", b"multipart/form-data; boundary=\xe9"))
    assert (status, json.loads(body)["error"]["code"]) == (400, "bad_header")


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


async def _nowhere(message: Message) -> None:
    pass


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
