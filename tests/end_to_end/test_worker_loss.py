"""kill -9 of one worker of two, request by request: it loses those it has begun, and no others."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.end_to_end.ports import free_port
from tests.end_to_end.servers import running
from tests.graphs import write_graph
from tests.multipart import CONTENT_TYPE, body, part

pytestmark = pytest.mark.slow

HORSE = (Path(__file__).parents[2] / "examples" / "horse.png").read_bytes()
BODY = body(part("images", HORSE, "horse.png"))
WORKER = "_bentoml_impl.worker.service"
AT_LEAST_EACH = 2


def wait_until(condition: Callable[[], bool]) -> float:
    """Return how many seconds it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < 90
        time.sleep(0.02)
    return time.monotonic() - began


def begin(port: int) -> socket.socket:
    """Send half of a request; the worker that took the connection waits for the rest."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    head = f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(BODY)}"
    connection.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode() + BODY[: len(BODY) // 2])
    return connection


def finish(connection: socket.socket) -> bytes:
    """Send the other half; return the answer, empty where the connection was lost."""
    try:
        connection.sendall(BODY[len(BODY) // 2 :])
        return b"".join(iter(lambda: connection.recv(65536), b""))
    except ConnectionError:
        return b""


def taken_by(worker: psutil.Process, connections: list[socket.socket]) -> list[socket.socket]:
    """Return those of the connections that the worker has accepted."""
    theirs = {link.raddr.port for link in worker.net_connections("tcp") if link.raddr}
    return [connection for connection in connections if connection.getsockname()[1] in theirs]


@contextmanager
def server(folder: Path, workers: int) -> Iterator[tuple[int, list[psutil.Process], float]]:
    """Run so many workers; yields the port, the workers, and how many seconds it took until all had started."""
    write_graph(folder / "models")
    port = free_port()
    command = [sys.executable, "-m", "serving.cli", "serve", "--models", str(folder / "models"), "--port", str(port)]
    began = time.monotonic()
    with (folder / "log").open("w") as output:
        options: dict[str, Any] = {"stdout": output, "stderr": output}
        with running([*command, "--workers", str(workers)], port, **options) as process:
            wait_until(lambda: started(folder) == workers)
            seconds = time.monotonic() - began
            children = psutil.Process(process.pid).children()
            yield port, [child for child in children if WORKER in child.cmdline()], seconds


def started(folder: Path) -> int:
    """Return how many workers have ever been ready to answer."""
    return (folder / "log").read_text().count("Service quarterturn initialized")


def test_a_killed_worker_loses_the_requests_it_had_begun_and_no_others(tmp_path: Path) -> None:
    with server(tmp_path, workers=2) as (port, (killed, other), start_up), ExitStack() as stack:
        connections: list[socket.socket] = []

        def both_have_some() -> bool:
            if len(connections) < 60:
                connections.append(stack.enter_context(begin(port)))
            return all(len(taken_by(worker, connections)) >= AT_LEAST_EACH for worker in (killed, other))

        def all_are_taken() -> bool:
            return len(taken_by(killed, connections)) + len(taken_by(other, connections)) == len(connections)

        wait_until(both_have_some)
        wait_until(all_are_taken)
        lost, kept = taken_by(killed, connections), taken_by(other, connections)
        killed.kill()
        began = time.monotonic()
        for _ in range(10):  # new ones, while one worker is missing
            answer = httpx.post(f"http://127.0.0.1:{port}/classify", files={"images": HORSE}, timeout=60)
            assert answer.status_code == 200
        assert [finish(connection)[:12] for connection in lost] == [b""] * len(lost)
        assert [finish(connection)[:12] for connection in kept] == [b"HTTP/1.1 200"] * len(kept)
        wait_until(lambda: started(tmp_path) == 3)
        assert time.monotonic() - began < 2 * start_up


@pytest.mark.parametrize("place", ["machine", "container"])
def test_a_server_of_one_worker_is_ready_again_within_twice_its_start_up_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    if place == "container":
        monkeypatch.setenv("BENTOML_CONTAINERIZED", "true")  # as BentoML's images have it
    with server(tmp_path, workers=1) as (port, [worker], start_up):
        began = time.monotonic()
        worker.kill()
        worker.wait(30)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            assert client.get("/readyz").status_code == 200  # it waits until there is somebody to answer
            assert time.monotonic() - began < 2 * start_up
            assert client.post("/classify", files={"images": HORSE}).status_code == 200


@pytest.mark.skipif(sys.platform == "win32", reason="there a process does not learn of its parent's end")
def test_the_workers_end_with_a_main_process_that_is_killed(tmp_path: Path) -> None:
    """They would hold the port against the next start, and nobody could reload or stop them."""
    with server(tmp_path, 2) as (port, workers, _):
        psutil.Process(workers[0].ppid()).kill()
        _, alive = psutil.wait_procs(workers, timeout=20)
        assert not alive
        with socket.create_server(("127.0.0.1", port)):
            pass
