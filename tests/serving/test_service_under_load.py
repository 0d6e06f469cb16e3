"""The service when it is full, slow or asked by many at once."""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from serving.graphs.graph import Graph
from serving.metrics import metrics
from tests.fuzz import memory
from tests.graphs import solid, write_graph
from tests.multipart import CONTENT_TYPE, body, part
from tests.serving.local_service import local_service
from tests.serving.solid_files import BLACK, files, png


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_graph(folder, "colours")
    return folder


class Gate(threading.Event):
    """While it is cleared, no graph gets on with a run; ``reached``: one has come to it; ``sizes`` of all that have."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.sizes: list[int] = []


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate, run = Gate(), Graph.run
    gate.set()

    def run_after_gate(graph: Graph, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        gate.sizes.append(len(images))
        gate.reached.set()
        assert gate.wait(30)
        return run(graph, images)

    monkeypatch.setattr(Graph, "run", run_after_gate)
    return gate


def test_a_full_server_says_so_and_recovers(models: Path, gate: Gate) -> None:
    with local_service(models, max_in_flight=1, runs=1) as url, ThreadPoolExecutor(1) as threads:
        gate.clear()
        gate.reached.clear()
        slow = threads.submit(httpx.post, f"{url}/classify", files=files(BLACK), timeout=60)
        assert gate.reached.wait(30)
        refused = httpx.post(f"{url}/classify", files=files(BLACK))
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "busy"
        assert int(refused.headers["retry-after"]) >= 1
        assert httpx.get(f"{url}/livez").status_code == 200
        gate.set()
        assert slow.result().status_code == 200
        assert httpx.post(f"{url}/classify", files=files(BLACK)).status_code == 200


def test_small_files_cannot_fill_the_memory_at_the_size_of_a_large_model(tmp_path: Path, gate: Gate) -> None:
    write_graph(tmp_path, "large", size=224)
    dots = files(*[png(solid(0, size=1))] * 64)  # 64 x 150,528 bytes at the model's size, 13,000 as they are sent
    room = 2 * 64 * (3 * 224**2 + 300)

    def ask(url: str) -> httpx.Response:
        return httpx.post(f"{url}/classify", files=dots, timeout=60)

    with local_service(tmp_path, max_held_bytes=room, runs=1) as url, ThreadPoolExecutor(14) as threads:
        assert [ask(url).status_code for _ in range(3)] == [200] * 3  # one after the other: each gives its room back
        gate.clear()
        gate.reached.clear()
        before = memory.resident()
        first = [threads.submit(ask, url) for _ in range(2)]
        assert gate.reached.wait(30)
        refused = [answer.result() for answer in [threads.submit(ask, url) for _ in range(12)]]
        assert memory.resident() - before < 2 * room  # 14 requests: 134 MB
        assert [answer.status_code for answer in refused] == [503] * 12
        assert refused[0].json()["error"]["code"] == "busy"
        assert int(refused[0].headers["retry-after"]) >= 1
        gate.set()
        assert [answer.result().status_code for answer in first] == [200] * 2
        assert [answer.result().status_code for answer in [threads.submit(ask, url) for _ in range(2)]] == [200] * 2


def test_images_that_never_fit_are_refused_for_good(tmp_path: Path) -> None:
    write_graph(tmp_path, "large", size=224)
    dots = [png(solid(0, size=1))] * 3
    with local_service(tmp_path, max_held_bytes=2 * 3 * 224**2 + 10_000) as url:
        for path in ("classify", "anomaly_score"):
            answer = httpx.post(f"{url}/{path}", files=files(*dots), timeout=60)
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_many_images")
            assert httpx.post(f"{url}/{path}", files=files(*dots[:2]), timeout=60).status_code == 200


def test_a_request_whose_client_has_gone_is_not_run(models: Path, gate: Gate) -> None:
    with local_service(models, runs=1) as url, ThreadPoolExecutor(1) as threads:
        gate.clear()
        gate.reached.clear()
        gate.sizes.clear()
        left_before = requests_left()
        for connection in [leave_waiting(url) for _ in range(12)]:
            connection.close()
        assert gate.reached.wait(30)
        kept = threads.submit(httpx.post, f"{url}/classify", files=files(BLACK), timeout=60)
        deadline = time.monotonic() + 30
        while requests_left() - left_before < 12:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(gate.sizes) == 1
        gate.set()
        assert kept.result().status_code == 200
        assert gate.sizes[1:] == [1]  # the kept one
        assert httpx.post(f"{url}/classify", files=files(BLACK)).status_code == 200


def leave_waiting(url: str) -> socket.socket:
    """Send a whole request, and return its connection, on which no answer has come."""
    content = body(part("images", BLACK, "black.png"))
    head = ["POST /classify HTTP/1.1", "Host: x", f"Content-Type: {CONTENT_TYPE}", f"Content-Length: {len(content)}"]
    address = httpx.URL(url)
    connection = socket.create_connection((address.host, address.port or 80), timeout=30)
    connection.sendall("\r\n".join([*head, "", ""]).encode() + content)
    return connection


def requests_left() -> float:
    """Return how many requests this process has counted as left by their clients."""
    samples = [sample for family in metrics().requests.collect() for sample in family.samples]
    return sum(one.value for one in samples if one.name.endswith("_total") and one.labels["status"] == "499")


def test_a_form_full_of_names_keeps_no_worker_busy(models: Path) -> None:
    lists = [json.dumps([f"{number:x}" for number in range(start, start + 1000)]) for start in range(0, 60_000, 1000)]
    with local_service(models, max_request_bytes=10_000_000) as url:
        started = time.process_time()
        answer = httpx.post(f"{url}/anomaly_score", files=files(BLACK), data={"model": lists}, timeout=600)
        assert time.process_time() - started < 5  # of client and server; the names alone took minutes
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_field")


def test_an_upload_has_so_much_time(models: Path) -> None:
    head = f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: 10000\r\n\r\n"
    with local_service(models, max_request_seconds=0.5) as url:
        address = httpx.URL(url)
        with socket.create_connection((address.host, address.port or 80), timeout=30) as stalled:
            stalled.sendall(head.encode() + body(part("images", BLACK, "a.png"))[:50])
            assert httpx.post(f"{url}/classify", files=files(BLACK)).status_code == 200  # it holds up no other
            answer = stalled.recv(65536)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"upload_timeout"' in answer


def test_work_that_takes_too_long_is_given_up(models: Path, gate: Gate) -> None:
    with local_service(models, max_request_seconds=0.3, runs=1) as url:
        gate.clear()
        answer = httpx.post(f"{url}/classify", files=files(BLACK), timeout=60)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
        assert httpx.get(f"{url}/models").status_code == 200
        gate.set()
        assert httpx.post(f"{url}/classify", files=files(BLACK), timeout=60).status_code == 200


def test_concurrent_requests_get_their_own_answers(models: Path) -> None:
    with local_service(models) as url, httpx.Client(base_url=url) as client:
        _ask_side_by_side(client)


def _ask_side_by_side(client: httpx.Client) -> None:
    expected = {value: client.post("/classify", files=files(png(solid(value)))).json() for value in range(0, 250, 25)}
    assert len({json.dumps(answer) for answer in expected.values()}) == len(expected)
    wrong: list[int] = []

    def ask(value: int) -> None:
        for _ in range(5):
            answer = client.post("/classify", files=files(png(solid(value)))).json()
            if not _same(answer, expected[value]):
                wrong.append(value)

    threads = [threading.Thread(target=ask, args=(value,)) for value in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def _same(answer: Any, expected: Any) -> bool:
    """The same label, and its probability to float32's precision: images that share a run differ in the last digit."""
    (one,), (other,) = answer["results"], expected["results"]
    return bool(one["label"] == other["label"] and one["probability"] == pytest.approx(other["probability"], rel=1e-5))
