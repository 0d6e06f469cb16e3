"""The Python client before a server that is full, and before what is no server of this API."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving.client import Client, RefusedError
from tests.graphs import solid, write_graph
from tests.pictures import encoded
from tests.serving.held_service import held_service

BLACK = encoded(Image.fromarray(solid(0)))
NOISE = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_graph(folder, "colours")
    return folder


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds the client would have slept, in place of sleeping."""
    waited: list[float] = []
    monkeypatch.setattr("serving.client.sleep", waited.append)
    return waited


def test_a_full_server_is_asked_again_after_what_it_says(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    with held_service(models) as (url, hold), Client(url) as client:

        def wait(seconds: float) -> None:
            waited.append(seconds)
            if len(waited) == 2:
                hold.let_go()

        monkeypatch.setattr("serving.client.sleep", wait)
        # A file is sent whole each time.
        assert len(client.classify(io.BytesIO(NOISE), BLACK)["results"]) == 2
    assert len(waited) == 2
    assert all(1 <= seconds <= 1.5 for seconds in waited)


@pytest.mark.parametrize("retries", [0, 2])
def test_a_server_that_stays_full_is_given_up(models: Path, waits: list[float], retries: int) -> None:
    with held_service(models) as (url, _), Client(url, retries=retries) as client:
        with pytest.raises(RefusedError) as caught:
            client.classify(NOISE)
        assert (caught.value.status, caught.value.code) == (503, "busy")
        assert caught.value.headers["retry-after"] == "1"
        assert len(waits) == retries


class Proxy(BaseHTTPRequestHandler):
    """What may stand before a server: a status, and a page, by the path that is asked for."""

    def do_GET(self) -> None:
        _, status, *retry_after, _ = self.path.split("/")
        self.send_response(int(status))
        self.send_header("Content-Type", "text/html")
        for value in retry_after:
            self.send_header("Retry-After", value)
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def proxy() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        ("200", 200, []),
        ("302", 302, []),
        ("502", 502, []),
        ("503", 503, [1, 1]),
        ("503/7", 503, [7, 7]),
        ("503/60", 503, [60, 60]),
        ("503/61", 503, []),
        ("503/tomorrow", 503, [1, 1]),
        ("503/-5", 503, [1, 1]),
    ],
)
def test_answers_of_something_else_are_refusals_too(
    proxy: str, waits: list[float], path: str, status: int, expected: list[int]
) -> None:
    with (
        Client(f"{proxy}/{path}", retries=2) as client,
        pytest.raises(RefusedError, match="no answer of this API") as e,
    ):
        client.models()
    assert (e.value.status, e.value.code) == (status, "not_the_api")
    assert len(waits) == len(expected)
    assert all(least <= wait <= 1.5 * least for wait, least in zip(waits, expected, strict=True))
