"""Clients that hold a server up: a head without end, and an answer that is not read when the server is to end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from serving.processes.supervisor import DRAIN_SECONDS
from tests.end_to_end.ports import free_port
from tests.end_to_end.servers import running
from tests.graphs import write_graph
from tests.multipart import CONTENT_TYPE, body, part

pytestmark = pytest.mark.slow

HORSE = (Path(__file__).parents[2] / "examples" / "horse.png").read_bytes()
BODY = body(part("images", HORSE, "horse.png"))
LARGE = b"GET /static_content/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
REQUEST_SECONDS = 4
OURS = [sys.executable, "-m", "serving.cli", "serve"]
BENTOML = [sys.executable, "-m", "bentoml", "serve", "serving.service:Quarterturn"]


def connected(port: int, buffer: int | None = None) -> socket.socket:
    connection = socket.socket()
    if buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", port))
    return connection


def refuses_a_head_without_end(port: int) -> bool:
    with connected(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        received = b""
        with suppress(ConnectionError):
            for _ in range(10):
                connection.sendall(b"a" * 100_000)
            while data := connection.recv(65536):
                received += data
    head, content = received.split(b"\r\n\r\n")
    return head.startswith(b"HTTP/1.1 431 ") and json.loads(content)["error"]["code"] == "head_too_large"


@pytest.mark.parametrize("command", [OURS, BENTOML], ids=["quarterturn serve", "bentoml serve"])
def test_a_client_that_does_not_read_keeps_the_server_from_ending_for_a_bounded_time(
    tmp_path: Path, command: list[str]
) -> None:
    write_graph(tmp_path / "models")
    port = free_port()
    environment = {**os.environ, "QUARTERTURN_MODELS": str(tmp_path / "models")}
    environment["QUARTERTURN_MAX_REQUEST_SECONDS"] = str(REQUEST_SECONDS)
    with (
        (tmp_path / "log").open("w") as output,
        running([*command, "--port", str(port)], port, env=environment, stdout=output, stderr=output) as process,
        connected(port, buffer=4096) as unread,
        connected(port, buffer=4096) as slow,
        connected(port) as begun,
    ):
        assert refuses_a_head_without_end(port)
        unread.sendall(LARGE * 6)
        slow.sendall(LARGE)
        received = slow.recv(65536)
        begun.sendall(
            f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: {CONTENT_TYPE}\r\n"
            f"Content-Length: {len(BODY)}\r\n\r\n".encode()
            + BODY[:100]
        )
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        time.sleep(1)
        begun.sendall(BODY[100:])
        assert begun.recv(65536).startswith(b"HTTP/1.1 200 ")
        while data := slow.recv(65536):
            received += data
            time.sleep(len(data) / 1_000_000)
        length = re.search(rb"content-length: (\d+)", received)
        assert length
        assert len(received.split(b"\r\n\r\n", 1)[1]) == int(length[1])
        assert process.poll() is None  # the answer that nobody reads
        assert process.wait(60) == 0
        assert time.monotonic() - started < REQUEST_SECONDS + DRAIN_SECONDS + 10
