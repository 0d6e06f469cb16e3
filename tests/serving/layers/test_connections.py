"""No connection takes more than it may before its request has begun, and none stands still for ever."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from serving.layers import connections, unread_answers
from serving.layers.connections import HEAD_BYTES, HEAD_LOOKS, UNREAD_LOOKS
from serving.layers.queued_requests import MAX_QUEUED
from serving.layers.unread_bodies import LINGER_BYTES
from tests.graphs import write_graph
from tests.multipart import CONTENT_TYPE, body, part
from tests.pictures import encoded, picture
from tests.serving.local_service import local_service

LOOK_SECONDS = 0.1
HEAD_SECONDS = HEAD_LOOKS * LOOK_SECONDS
UNREAD_SECONDS = UNREAD_LOOKS * LOOK_SECONDS
LINGER_SECONDS = 0.5
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
IMAGES = 512  # of which the views are an answer of about a megabyte
LARGE = b"GET /static_content/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = (
    f"POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: {CONTENT_TYPE}\r\n\r\n".encode()
)
CHUNK = b"4\r\n\r\n--\r\n"

# What is sent once, and what then follows again and again.
ENDLESS = {
    "address": (b"GET /", b"a" * 1000),
    "name": (GET, b"a" * 1000),
    "value": (GET + b"X: ", b"a" * 1000),
    "headers": (GET, b"x-y: aaaaaaaaaaaaaaaaaaaa\r\n"),
    "trailers": (CHUNKED + CHUNK + b"0\r\n", b"x-y: aaaaaaaaaaaaaaaaaaaa\r\n"),
    "chunk extension": (CHUNKED + CHUNK + b"4;", b"a" * 1000),
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    models = tmp_path_factory.mktemp("models")
    write_graph(models)
    write_graph(models, "views", formula="transformation")
    with pytest.MonkeyPatch.context() as patch, local_service(models, max_images=IMAGES) as address:
        patch.setattr(connections, "LOOK_SECONDS", LOOK_SECONDS)
        patch.setattr(connections, "LINGER_SECONDS", LINGER_SECONDS)
        yield address


def connected(url: str, buffer: int | None = None) -> socket.socket:
    address = httpx.URL(url)
    connection = socket.socket()
    if buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.settimeout(30)
    connection.connect((address.host, address.port))
    return connection


def until_the_end(connection: socket.socket) -> bytes:
    """Read until the server ends the connection, in whatever way."""
    received = b""
    with suppress(ConnectionError):
        while data := connection.recv(65536):
            received += data
    return received


def error_of(answer: bytes) -> str:
    """Return the code of a 431 that is all there is, in the one shape, and ends the connection."""
    head, content = answer.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert b"\r\ncontent-type: application/json\r\n" in head
    assert head.endswith(b"\r\nconnection: close")
    assert f"content-length: {len(content)}".encode() in head
    error = json.loads(content)["error"]
    assert error.keys() == {"code", "message"}
    code: str = error["code"]
    return code


def with_header(size: int) -> bytes:
    """Return a request with a header of so many bytes."""
    return GET + b"X: " + b"a" * size + b"\r\n\r\n"


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_head_or_trailers_without_end_are_refused(url: str, kind: str) -> None:
    once, more = ENDLESS[kind]
    with connected(url) as connection:
        connection.sendall(once)
        connection.sendall(more * (10 * HEAD_BYTES // len(more)))
        assert error_of(until_the_end(connection)) == "head_too_large"


def test_what_comes_after_the_refusal_is_taken_for_a_moment_only(url: str) -> None:
    sent = 0
    started = time.monotonic()
    with connected(url) as connection:
        connection.sendall(GET + b"X: ")
        with suppress(ConnectionError):
            while sent < 20 * LINGER_BYTES:
                sent += connection.send(b"a" * (1 << 20))
    assert sent < LINGER_BYTES + 16 * 2**20  # and what the system's buffers take
    assert time.monotonic() - started < LINGER_SECONDS + 10


def test_a_head_is_measured_the_same_whether_it_comes_at_once_or_in_pieces(url: str) -> None:
    for size, status in ((HEAD_BYTES - 100, 200), (HEAD_BYTES + 1, 431)):
        for piece in (1_000, 10_000, 10**9):
            with connected(url) as connection:
                request = with_header(size)
                for start in range(0, len(request), piece):
                    connection.sendall(request[start : start + piece])
                assert connection.recv(65536).startswith(b"HTTP/1.1 %d " % status), (size, piece)


def test_it_is_each_head_that_counts_on_a_connection_that_goes_on(url: str) -> None:
    with connected(url) as connection:
        for _ in range(5):
            connection.sendall(with_header(HEAD_BYTES // 2))
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(with_header(2 * HEAD_BYTES))
        assert error_of(until_the_end(connection)) == "head_too_large"


def test_a_body_in_many_chunks_is_no_head(url: str) -> None:
    content = body(part("images", encoded(picture(64, 64), "BMP"), "a.bmp"))
    chunks = b"".join(b"1;an-extension=%s\r\n%c\r\n" % (b"x" * 50, byte) for byte in content)
    assert len(chunks) > 2 * HEAD_BYTES
    with connected(url) as connection:
        for _ in range(2):
            connection.sendall(CHUNKED + chunks + b"0\r\nx-trailer: a\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_refusal_is_not_taken_for_the_answer_of_the_request_before(url: str) -> None:
    with connected(url) as connection:
        with suppress(ConnectionError):
            connection.sendall(GET + b"\r\n" + with_header(20 * HEAD_BYTES))
        assert b" 431 " not in until_the_end(connection)


@pytest.mark.parametrize("begun", [b"", b"\r\n", b"G", GET + b"X: a"])
def test_a_head_that_does_not_come_ends_the_connection(url: str, begun: bytes) -> None:
    with connected(url) as connection:
        started = time.monotonic()
        connection.sendall(begun)
        assert until_the_end(connection) == b""
        assert HEAD_SECONDS - 2 * LOOK_SECONDS < time.monotonic() - started < HEAD_SECONDS + 3


def test_a_head_in_drops_ends_a_connection_that_was_good_before(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(GET + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        time.sleep(2 * HEAD_SECONDS)  # idle, which is allowed for longer
        started = time.monotonic()
        connection.settimeout(LOOK_SECONDS / 2)
        with suppress(ConnectionError):
            for byte in with_header(1000):
                connection.sendall(bytes([byte]))
                with suppress(TimeoutError):
                    assert connection.recv(65536) == b""
                    break
        assert time.monotonic() - started < HEAD_SECONDS + 3


def test_an_idle_connection_stays_open_as_long_as_is_set(tmp_path: Path) -> None:
    write_graph(tmp_path)
    with local_service(tmp_path, keep_alive_seconds=4) as address, connected(address) as connection:
        for _ in range(2):
            connection.sendall(GET + b"\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
            started = time.monotonic()
            time.sleep(1)
        assert until_the_end(connection) == b""
        assert 3.9 < time.monotonic() - started < 10


def test_a_body_that_takes_longer_than_a_head_may_is_waited_for(url: str) -> None:
    content = body(part("images", encoded(picture(64, 64)), "a.png"))
    head = (
        f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    with connected(url) as connection:
        for _ in range(2):
            connection.sendall(head.encode() + content[:100])
            time.sleep(2 * HEAD_SECONDS)
            connection.sendall(content[100:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_does_not_read_loses_its_connection(url: str) -> None:
    whole = len(httpx.get(f"{url}/static_content/swagger-ui-bundle.js").content)
    with connected(url, buffer=4096) as connection:
        connection.sendall(LARGE * 8)
        time.sleep(UNREAD_SECONDS + 10 * LOOK_SECONDS)
        assert len(until_the_end(connection)) < 8 * whole


def test_as_many_requests_as_may_wait_are_answered_in_their_order(url: str) -> None:
    """Sent at once: every second one is of an address that is not there."""
    paths = [b"/livez", b"/not-there"] * 4 + [b"/livez"]
    assert len(paths) == MAX_QUEUED + 1
    last = b"GET /not-there HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with connected(url) as connection:
        connection.sendall(b"".join(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n" for path in paths))
        received = b""
        while received.count(b"HTTP/1.1 ") < len(paths):
            data = connection.recv(65536)
            assert data
            received += data
        connection.sendall(last)
        received += until_the_end(connection)
    assert re.findall(rb"HTTP/1\.1 (\d+) ", received) == [b"200", b"404"] * 5


def test_of_more_requests_than_may_wait_those_are_answered_and_no_more(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\n\r\n" * (MAX_QUEUED + 2))
        answers = until_the_end(connection)
    assert answers.count(b"HTTP/1.1 200 ") == MAX_QUEUED + 1
    assert answers.count(b"connection: close") == 1


def test_a_queue_of_requests_without_end_is_not_read(url: str) -> None:
    """Small requests by the thousand, sent for as long as the server takes them."""
    with connected(url) as connection:
        with suppress(ConnectionError):
            for _ in range(100):
                connection.sendall(b"GET /livez HTTP/1.1\r\n\r\n" * 1000)
        answers = until_the_end(connection)
    assert answers.count(b"HTTP/1.1 ") <= MAX_QUEUED + 1
    assert httpx.get(f"{url}/livez").status_code == 200


@pytest.mark.parametrize("is_read", [True, False])
def test_a_websocket_is_refused_where_an_answer_is_under_way(url: str, is_read: bool) -> None:
    """The connection ends, and with it all that is kept for it, also where its client reads nothing of the answer."""
    upgrade = (
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n\r\n"
    )
    with connected(url, buffer=4096) as connection:
        connection.sendall(LARGE)
        assert connection.recv(1, socket.MSG_PEEK) == b"H"
        deadline = time.monotonic() + 30
        while not connections._unread._held:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        connection.sendall(GET + upgrade)
        if is_read:
            received = until_the_end(connection)
            assert b"HTTP/1.1 403" not in received
        time.sleep(UNREAD_SECONDS + 10 * LOOK_SECONDS)
    assert not connections._unread._held


def test_of_many_unread_answers_those_that_stand_longest_are_given_up(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [part("images", encoded(picture(4, 4)), "a.png")] * IMAGES
    content = body(part("model", b"views"), part("views", b"true"), *images)
    head = (
        f"POST /anomaly_score HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {CONTENT_TYPE}\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    headers = {"Content-Type": CONTENT_TYPE}
    whole = httpx.post(f"{url}/anomaly_score", content=content, headers=headers, timeout=60).content
    assert len(whole) > 1_000_000
    monkeypatch.setattr(unread_answers, "UNREAD_BYTES", len(whole))
    monkeypatch.setattr(connections, "UNREAD_LOOKS", 10_000)
    with ExitStack() as stack:
        clients = []
        for _ in range(4):
            clients.append(stack.enter_context(connected(url, buffer=4096)))
            clients[-1].sendall(head.encode() + content)
            assert clients[-1].recv(1, socket.MSG_PEEK) == b"H"
        *given_up, last = [until_the_end(client) for client in clients]
    assert last.split(b"\r\n\r\n", 1)[1] == whole
    assert all(len(received) < len(whole) for received in given_up)


def test_a_client_that_reads_slowly_gets_all(url: str) -> None:
    with connected(url, buffer=4096) as connection:
        connection.sendall(LARGE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        started = time.monotonic()
        received = b""
        while data := connection.recv(65536):
            received += data
            time.sleep(len(data) / 500_000)
        assert time.monotonic() - started > UNREAD_SECONDS
        length = re.search(rb"content-length: (\d+)", received)
        assert length
        assert len(received.split(b"\r\n\r\n", 1)[1]) == int(length[1])
