"""Requests for what there is not, to a server with a key and no other setting: they leave no series and no line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.ports import free_port
from tests.end_to_end.servers import running
from tests.graphs import write_graph

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
HORSE = (ROOT / "examples" / "horse.png").read_bytes()
KEY = {"X-API-Key": "a-long-secret-key"}
PATHS = 300
HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@dataclass
class Server:
    """A running server: a client of it, its port, and where its output goes."""

    client: httpx.Client
    port: int
    log: Path

    def series(self) -> dict[str, float]:
        """Return what ``/metrics`` shows: values by name and labels."""
        lines = self.client.get("/metrics", headers=KEY).raise_for_status().text.splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


@pytest.fixture(
    scope="module",
    params=[["serving.cli", "serve"], ["bentoml", "serve", "serving.service:Quarterturn"]],
    ids=["quarterturn", "bentoml"],
)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    write_graph(folder / "models")
    environment = {**os.environ, "QUARTERTURN_API_KEY": KEY["X-API-Key"], "QUARTERTURN_MODELS": str(folder / "models")}
    port, log = free_port(), folder / "log"
    command = [sys.executable, "-m", *request.param, "--port", str(port)]
    options: dict[str, Any] = {"cwd": ROOT, "env": environment, "stderr": subprocess.STDOUT}
    with (
        log.open("w") as output,
        running(command, port, stdout=output, **options),
        httpx.Client(base_url=f"http://localhost:{port}", timeout=60) as client,
    ):
        yield Server(client, port, log)
    assert "Traceback" not in log.read_text()


def test_paths_that_there_are_not_add_no_series(server: Server) -> None:
    def ask(first: int, last: int) -> None:
        for number in range(first, last):
            assert server.client.get(f"/a{number}", headers=KEY).status_code == 404
            assert server.client.get(f"/a{number}").status_code == 401
            assert server.client.get(f"/demo/a{number}").status_code == 404  # needs no key
            assert server.client.post("/models", headers=KEY).status_code == 405

    server.client.post("/classify", files={"images": HORSE}, headers=KEY).raise_for_status()
    ask(0, 1)
    server.series()  # which is counted too
    before = server.series()
    ask(1, PATHS + 1)
    after = server.series()
    assert after.keys() == before.keys()
    assert all(name.startswith("quarterturn_") for name in after)
    for status, times in ((404, 2), (401, 1)):
        name = f'quarterturn_requests_total{{endpoint="other",status="{status}"}}'
        assert after[name] - before[name] == times * PATHS


@pytest.mark.parametrize("path", ["/", "/classify", "/demo", "/ws"])
def test_no_path_takes_a_websocket(server: Server, path: str) -> None:
    server.series()
    before = server.series()
    for key in ("", f"X-API-Key: {KEY['X-API-Key']}\r\n"):
        with socket.create_connection(("localhost", server.port), timeout=30) as connection:
            connection.sendall(HANDSHAKE.format(path=path, key=key).encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 403 "), answer
    assert server.series().keys() == before.keys()


def test_the_log_has_no_line_of_a_request(server: Server) -> None:
    server.client.get("/models", headers=KEY).raise_for_status()
    assert server.client.get("/not-there", headers=KEY).status_code == 404
    log = server.log.read_text()
    assert "Service quarterturn initialized" in log
    for word in ("/models ", "path=", "/not-there", "/a1", "/ws", " 404", "Client connected", "Connection closed"):
        assert word not in log.replace(str(server.log.parent), "")
