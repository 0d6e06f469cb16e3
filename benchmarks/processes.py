"""Server processes: started for a measurement, watched, and gone at the end with all their children."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

START_SECONDS = 180
_POLL_SECONDS = 0.01
_QUIET_SECONDS = 0.25
_QUIET_CORES = 0.2
_SETTLE_SECONDS = 10.0


class ServerError(RuntimeError):
    """A server that ended, or was not ready in time; the message holds the end of its log."""


@dataclass
class Server:
    """A server that is ready: ``ready_seconds`` after its start. ``port`` on 127.0.0.1; ``log`` is its output."""

    process: subprocess.Popen[bytes]
    port: int
    ready_seconds: float
    log: Path

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def tree(self) -> list[psutil.Process]:
        """Return the process and all its descendants that are alive."""
        try:
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cpu_seconds(self) -> float:
        """Return the processor time that the processes alive have used."""
        total = 0.0
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                used = process.cpu_times()
                total += used.user + used.system
        return total

    def settle(self) -> None:
        """Wait until the processes use less than a fifth of a core: what a load that ended left in queues is done.

        Ten seconds at most: some servers are never quiet.
        """
        deadline = time.monotonic() + _SETTLE_SECONDS
        used = self.cpu_seconds()
        while time.monotonic() < deadline:
            time.sleep(_QUIET_SECONDS)
            before, used = used, self.cpu_seconds()
            if used - before < _QUIET_CORES * _QUIET_SECONDS:
                return

    def workers(self) -> list[psutil.Process]:
        """Return the processes that answer: those without children that have ONNX Runtime loaded.

        A single process that does everything counts as its own worker.
        """
        found = []
        for process in self.tree():
            with suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                maps = Path(f"/proc/{process.pid}/maps").read_text()
                if "onnxruntime_pybind11_state" in maps and not process.children():
                    found.append(process)
        return found


def free_port() -> int:
    """Return a TCP port of localhost that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def running(
    command: Sequence[str], port: int, ready_path: str, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run a server until the block ends; the block begins when a GET of ``ready_path`` first gives 200.

    ``environment`` is added to this process's. Raises ServerError where that does not happen.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        variables = {**os.environ, **(environment or {})}
        with log.open("wb") as output:
            began = time.monotonic()
            process = subprocess.Popen(
                command, env=variables, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        server = Server(process, port, 0.0, log)
        try:
            _wait_until_ready(server, ready_path, began + START_SECONDS)
            server.ready_seconds = time.monotonic() - began
            yield server
        finally:
            stop(server)


def stop(server: Server) -> None:
    """End a server as a supervisor would, with SIGTERM; whatever is left after ten seconds is killed."""
    processes = server.tree()
    with suppress(ProcessLookupError):
        server.process.terminate()
    with suppress(subprocess.TimeoutExpired):
        server.process.wait(10)
    _, left = psutil.wait_procs(processes[1:], timeout=3)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    server.process.kill()
    server.process.wait()


def _wait_until_ready(server: Server, path: str, deadline: float) -> None:
    while not _is_ready(server.port, path, deadline):
        status = server.process.poll()
        if status is not None:
            raise ServerError(f"the server ended with status {status}: {_tail(server.log)}")
        if time.monotonic() > deadline:
            raise ServerError(f"the server was not ready after {START_SECONDS} seconds: {_tail(server.log)}")
        time.sleep(_POLL_SECONDS)


def _is_ready(port: int, path: str, deadline: float) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=max(0.1, deadline - time.monotonic()))
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tail(log: Path) -> str:
    return log.read_text(errors="replace").strip()[-2000:]
