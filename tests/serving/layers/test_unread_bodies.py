"""What is answered before its body is there ends its connection, and the client gets the answer all the same."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from serving.layers import unread_bodies
from serving.layers.unread_bodies import LINGER_BYTES, UnreadBodies
from tests.graphs import write_graph
from tests.multipart import CONTENT_TYPE, body, part
from tests.serving.local_service import local_service

SECONDS = 1
LINGER_SECONDS = 0.5
REQUEST_BYTES = 200_000
READING = 3


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    models = tmp_path_factory.mktemp("models")
    write_graph(models)
    settings = {"max_request_seconds": SECONDS, "max_request_bytes": REQUEST_BYTES, "max_reading": READING}
    with pytest.MonkeyPatch.context() as patch, local_service(models, **settings) as address:
        patch.setattr(unread_bodies, "LINGER_SECONDS", LINGER_SECONDS)
        yield address


def connected(url: str) -> socket.socket:
    address = httpx.URL(url)
    return socket.create_connection((address.host, address.port or 80), timeout=30)


def head(length: int, *lines: str, path: str = "/classify") -> bytes:
    first = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Type: {CONTENT_TYPE}", f"Content-Length: {length}"]
    return "\r\n".join([*first, *lines, "", ""]).encode()


def until_the_end(connection: socket.socket) -> bytes:
    """Read until the server ends the connection."""
    received = b""
    while data := connection.recv(65536):
        received += data
    return received


def test_time_ends_the_connection_of_a_body_in_drops(url: str) -> None:
    started = time.monotonic()
    with connected(url) as connection:
        connection.sendall(head(10_000) + body(part("images", b"x" * 5000, "a.png"))[:100])
        received = b""
        connection.settimeout(0.1)
        while True:
            try:
                data = connection.recv(65536)
            except TimeoutError:
                connection.sendall(b"x")
                continue
            except ConnectionError:
                break
            if not data:
                break
            received += data
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in received
    assert time.monotonic() - started < SECONDS + LINGER_SECONDS + 3  # a drop each 0.1 s would take 1000


def test_the_limit_on_bytes_ends_what_is_sent(url: str) -> None:
    sent = 0
    with connected(url) as connection:
        connection.sendall(head(10**10))
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answer
        with suppress(ConnectionError):
            while sent < 20 * LINGER_BYTES:
                sent += connection.send(bytes(1 << 20))
    assert sent < LINGER_BYTES + 16 * 2**20  # and what the system's buffers take


@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_sends_all_before_it_reads_gets_the_answer(url: str, chunked: bool) -> None:
    content = bytes(20 * REQUEST_BYTES)
    address = httpx.URL(url)
    with closing(http.client.HTTPConnection(address.host, address.port, timeout=30)) as connection:
        sent: Any = iter([content]) if chunked else content
        connection.request("POST", "/classify", sent, {"Content-Type": CONTENT_TYPE}, encode_chunked=chunked)
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("connection")) == (413, "close")
        assert b'"request_too_large"' in answer.read()


@pytest.mark.parametrize("path", ["/classify", "/nothing"])
def test_a_refusal_of_a_body_that_is_there_keeps_the_connection(url: str, path: str) -> None:
    content = body(part("images", b"hello", "a.png"), part("size", b"1"))
    with connected(url) as connection:
        for _ in range(3):
            connection.sendall(head(len(content), path=path) + content)
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 4")
            assert b"connection: close" not in answer


@pytest.mark.parametrize(("path", "status"), [("/nothing", 404), ("/healthz", 405), ("/classify", 413)])
def test_a_body_that_is_not_wanted_is_not_asked_for(url: str, path: str, status: int) -> None:
    started = time.monotonic()
    with connected(url) as connection:
        connection.sendall(head(10**9, "Expect: 100-continue", path=path))
        received = until_the_end(connection)
    assert time.monotonic() - started < SECONDS
    assert received.startswith(b"HTTP/1.1 %d " % status)


def test_an_endless_body_to_any_address_ends(url: str) -> None:
    for path, status in (("/nothing", 404), ("/classify/x", 404), ("/livez", 405)):
        with connected(url) as connection:
            connection.sendall(head(10**10, path=path) + bytes(1000))
            received = until_the_end(connection)
        assert received.startswith(b"HTTP/1.1 %d " % status)
        assert b"connection: close" in received


def test_so_many_bodies_are_read_at_a_time(url: str) -> None:
    with ExitStack() as stalled:
        for _ in range(READING):
            connection = stalled.enter_context(connected(url))
            connection.sendall(head(5_000, "Expect: 100-continue"))
            assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")  # its body is being read
        files = {"images": b"hello"}
        refused = httpx.post(f"{url}/classify", files=files)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "busy")
        assert int(refused.headers["retry-after"]) >= 1
        assert httpx.get(f"{url}/livez").status_code == 200
    deadline = time.monotonic() + 20
    while httpx.post(f"{url}/classify", files=files).status_code == 503:
        assert time.monotonic() < deadline
    assert httpx.post(f"{url}/classify", files=files).status_code == 415


def test_the_layer_below_is_done_before_the_client_is_waited_for() -> None:
    done = threading.Event()
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})
        done.set()

    async def receive() -> Message:
        if done.is_set():
            assert [message.get("more_body") for message in sent] == [None, True]
            return {"type": "http.disconnect"}
        if sent or len(asked) > 1:
            await asyncio.sleep(60)
        asked.append(1)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    asked: list[int] = []
    scope = {"type": "http", "headers": [(b"content-length", b"10")]}
    asyncio.run(UnreadBodies(app)(scope, receive, send))
    assert sent[0]["headers"] == [(b"connection", b"close")]
    assert sent[1:] == [
        {"type": "http.response.body", "body": b"no", "more_body": True},
        {"type": "http.response.body", "body": b""},
    ]


def test_a_body_that_was_read_and_no_body_at_all_change_nothing() -> None:
    answer = [
        {"type": "http.response.start", "status": 400, "headers": []},
        {"type": "http.response.body", "body": b"x"},
    ]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["headers"]:
            assert (await receive())["body"] == b"all"
        for message in answer:
            await send(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"all", "more_body": False}

    async def ask(headers: list[tuple[bytes, bytes]]) -> list[Message]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        await UnreadBodies(app)({"type": "http", "headers": headers}, receive, send)
        return sent

    assert asyncio.run(ask([(b"content-length", b"3")])) == answer
    assert asyncio.run(ask([])) == answer
