"""Models replaced, and workers killed, while a server of two workers answers."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from serving.graphs.graph import load_graph
from tests.end_to_end.ports import free_port
from tests.end_to_end.servers import running
from tests.graphs import build_graph, write_graph
from tests.multipart import CONTENT_TYPE, body, part

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
    found = []
    for child in main.children():
        with suppress(psutil.Error):  # gone, or killed and not yet collected
            if "_bentoml_impl.worker.service" in child.cmdline():
                found.append(child.pid)
    return sorted(found)


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


def test_a_changed_model_takes_over_in_every_worker_and_no_request_is_lost(tmp_path: Path) -> None:
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
        assert workers(main) == before
        seen = len(load.digests)
        wait_until(lambda: len(load.digests) > seen + 4)
    assert load.lost == []
    assert set(load.digests) == {old, new}
    assert load.digests[-1] == new


def metric(url: str, name: str) -> float:
    lines = httpx.get(f"{url}/metrics", timeout=60).text.splitlines()
    return next((float(line.split()[1]) for line in lines if line.split()[0] == name), 0.0)


def test_a_bad_folder_is_refused_and_dead_workers_are_replaced_all_the_same(tmp_path: Path) -> None:
    models = tmp_path / "models"
    path = write_graph(models)
    removed = write_graph(models, "views", formula="transformation")
    log = tmp_path / "log"
    with two_workers(models) as (url, main):
        gauge = 'quarterturn_queued_images{model="views"}'
        wait_until(lambda: gauge in httpx.get(f"{url}/metrics").text)
        removed.unlink()
        main.send_signal(signal.SIGHUP)
        wait_until(lambda: log.read_text().count("models reloaded") == 2)
        assert gauge not in httpx.get(f"{url}/metrics").text
        good = load_graph(path).digest
        # A second classifier, as `quarterturn calibrate` writes it, and then junk.
        for number, name in enumerate(("second", "junk"), start=1):
            write_graph(models, name, formula="msp").write_bytes(
                b"junk" if name == "junk" else build_graph(name, formula="msp").SerializeToString()
            )
            main.send_signal(signal.SIGHUP)
            wait_until(lambda number=number: log.read_text().count("models not reloaded") == number)  # type: ignore[misc]
        assert metric(url, 'quarterturn_model_reloads_total{outcome="refused"}') == 2
        assert metric(url, 'quarterturn_model_reloads_total{outcome="done"}') == 1
        before = workers(main)
        for pid in before:
            psutil.Process(pid).kill()
        wait_until(lambda: log.read_text().count("Service quarterturn initialized") == 4)
        assert not set(before) & set(workers(main))
        listed = [httpx.get(f"{url}/models").json()["models"] for _ in range(12)]
        assert {model["digest"] for models in listed for model in models} == {good}
        removed.parent.rmdir()
        (models / "second" / "model.onnx").unlink()
        (models / "junk" / "model.onnx").unlink()
        main.send_signal(signal.SIGHUP)
        wait_until(lambda: log.read_text().count("models reloaded") == 4)
    assert "Traceback" not in log.read_text()


def test_a_worker_that_is_starting_outlives_a_reload_and_has_the_new_models(tmp_path: Path) -> None:
    models = tmp_path / "models"
    path = write_graph(models)
    with two_workers(models) as (url, main):
        [killed, other] = workers(main)
        psutil.Process(killed).kill()
        wait_until(lambda: len(set(workers(main)) - {killed, other}) == 1)
        [starting] = set(workers(main)) - {killed, other}
        psutil.Process(starting).send_signal(signal.SIGHUP)  # it has only begun
        path.write_bytes(build_graph(classes=["x", "y", "z"]).SerializeToString())
        new = load_graph(path).digest
        main.send_signal(signal.SIGHUP)
        wait_until(lambda: (tmp_path / "log").read_text().count("Service quarterturn initialized") == 3)
        assert set(workers(main)) == {other, starting}
        psutil.Process(other).kill()
        wait_until(lambda: metric(url, 'quarterturn_model_reloads_total{outcome="done"}') == 1)
        wait_until(lambda: {digest_of_models(url) for _ in range(6)} == {new})
        assert starting in workers(main)


def digest_of_models(url: str) -> str:
    digest: str = httpx.get(f"{url}/models", timeout=60).json()["models"][0]["digest"]
    return digest


def test_what_a_killed_worker_held_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERTURN_MAX_REQUEST_SECONDS", "600")  # those of the other worker are not given up
    write_graph(tmp_path / "models")
    whole = body(part("images", bytes(100_000), "horse.png"))
    head = f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(whole)}\r\n\r\n"
    with two_workers(tmp_path / "models") as (url, main), ExitStack() as uploads:

        def upload() -> None:
            """Send half of one; whichever worker takes it holds that."""
            upload = uploads.enter_context(socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))))
            upload.sendall(head.encode() + whole[:50_000])

        def links(pid: int) -> int:
            return len([link for link in psutil.Process(pid).net_connections("tcp") if link.raddr])

        sent = 0
        while sent < 4 or min(links(pid) for pid in workers(main)) == 0:
            upload()
            sent += 1
            time.sleep(0.02)
        wait_until(lambda: metric(url, "quarterturn_held_bytes") > sent * 49_000)
        each = metric(url, "quarterturn_held_bytes") / sent
        killed, other = workers(main)
        kept = links(other)
        psutil.Process(killed).kill()
        wait_until(lambda: metric(url, "quarterturn_held_bytes") == kept * each)
