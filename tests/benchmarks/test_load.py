"""The load generator: what wrk prints is read right, and what it sends is what it should."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from benchmarks.multipart import CONTENT_TYPE, form
from benchmarks.service.load import LoadError, check_wrk, parse, run_wrk

OUTPUT = """Running 2s test @ http://127.0.0.1:4000/classify
  1 threads and 16 connections
  Non-2xx or 3xx responses: 10
Requests/sec:    500.00
Transfer/sec:     93.01KB

wrk-result {"requests": 1010, "duration_us": 2000000, "bytes": 9, "status_errors": 10, "connect_errors": 1, \
"read_errors": 2, "write_errors": 3, "timeouts": 4, "p50_us": 1500.0, "p95_us": 2500.0, "p99_us": 12345.6}
"""

with_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed (apt-get install wrk)")


def test_what_wrk_prints_is_read() -> None:
    load = parse(OUTPUT, cpu_seconds=0.5)
    assert (load.answered, load.failed) == (1000, 10 + 1 + 2 + 3 + 4)
    assert load.requests_per_second == pytest.approx(500)
    assert (load.p50, load.p95, load.p99) == pytest.approx((1.5, 2.5, 12.3456))
    assert (load.seconds, load.cpu_seconds) == (2.0, 0.5)


def test_output_without_a_result_is_refused() -> None:
    with pytest.raises(LoadError, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:9 Connection refused\n", 0.0)


def test_a_missing_wrk_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LoadError, match="apt-get install wrk"):
        check_wrk()


class _Recorder(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    bodies: ClassVar[set[tuple[str | None, bytes]]]
    count: ClassVar[int]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).bodies.add((self.headers["Content-Type"], body))
        type(self).count += 1
        self.send_response(200 if self.path == "/good" else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _recorder() -> Iterator[tuple[str, type[_Recorder]]]:
    class Handler(_Recorder):
        bodies: ClassVar = set()
        count: ClassVar = 0

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", Handler
        finally:
            server.shutdown()
            thread.join()


@with_wrk
def test_wrk_sends_the_body_as_it_is_and_counts_the_answers() -> None:
    body = form([bytes(range(256)) * 300], [("model", "a")])
    with _recorder() as (url, handler):
        load = run_wrk(f"{url}/good", body, CONTENT_TYPE, connections=2, seconds=1)
        assert handler.bodies == {(CONTENT_TYPE, body)}
        assert load.failed == 0
        assert 0 < load.answered <= handler.count
        assert load.requests_per_second == pytest.approx(load.answered / load.seconds)
        assert 0 < load.p50 <= load.p95 <= load.p99 < 1000
        assert load.cpu_seconds > 0
        refused = run_wrk(f"{url}/full", body, CONTENT_TYPE, connections=2, seconds=1)
        assert (refused.answered, refused.requests_per_second) == (0, 0)
        assert refused.failed > 0


@with_wrk
def test_a_server_that_is_not_there_is_an_error() -> None:
    with pytest.raises(LoadError, match="status 1"):
        run_wrk("http://127.0.0.1:9/", b"x", CONTENT_TYPE, connections=1, seconds=1)
