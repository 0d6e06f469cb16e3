"""Models replaced while a server of two workers answers."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from serving.graph import load_graph
from tests.end_to_end.ports import free_port
from tests.end_to_end.servers import running
from tests.graphs import build_graph, write_graph

pytestmark = pytest.mark.slow

HORSE = (Path(__file__).parents[2] / "examples" / "horse.png").read_bytes()


@contextmanager
def two_workers(models: Path) -> Iterator[tuple[str, psutil.Process]]:
    port = free_port()
    command = [sys.executable, "-m", "serving.cli", "serve", "--models", str(models), "--port", str(port)]
    with (models.parent / "log").open("w") as output:
        options: dict[str, Any] = {"stdout": output, "stderr": output, "env": {**os.environ}}
        with running([*command, "--workers", "2"], port, **options) as process:
            wait_until(lambda: (models.parent / "log").read_text().count("Service quarterturn initialized") == 2)
            yield f"http://localhost:{port}", psutil.Process(process.pid)


def workers(main: psutil.Process) -> list[int]:
    return sorted(child.pid for child in main.children() if "_bentoml_impl.worker.service" in child.cmdline())


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> float:
    """Return how many seconds it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds
        time.sleep(0.05)
    return time.monotonic() - started


class Load:
    """Requests one after the other from two clients, each on new connections: what was answered, what was lost."""

    def __init__(self, url: str) -> None:
        self.digests: list[str] = []
        self.lost: list[str] = []
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(2)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        while not self._stop.is_set():
            try:
                answer = httpx.post(f"{self._url}/classify", files={"images": HORSE}, timeout=60)
                assert answer.status_code == 200, answer.text
                self.digests.append(answer.json()["model"]["digest"])
            except (httpx.HTTPError, AssertionError) as error:
                self.lost.append(repr(error))


def test_a_changed_model_takes_over_in_every_worker_and_a_bad_one_does_not(tmp_path: Path) -> None:
    models = tmp_path / "models"
    path = write_graph(models)
    old = load_graph(path).digest

    def digests(url: str) -> set[str]:
        return {httpx.get(f"{url}/models").json()["models"][0]["digest"] for _ in range(12)}

    with two_workers(models) as (url, main), Load(url) as load:
        before = workers(main)
        path.write_bytes(build_graph(classes=["x", "y", "z"]).SerializeToString())
        new = load_graph(path).digest
        assert digests(url) == {old}
        main.send_signal(signal.SIGHUP)
        wait_until(lambda: digests(url) == {new})
        path.write_bytes(b"junk")
        main.send_signal(signal.SIGHUP)
        wait_until(lambda: (tmp_path / "log").read_text().count("models not reloaded") == 2)
        assert digests(url) == {new}
        assert workers(main) == before
        seen = len(load.digests)
        wait_until(lambda: len(load.digests) > seen + 4)
    assert load.lost == []
    assert set(load.digests) == {old, new}
    assert load.digests[-1] == new
