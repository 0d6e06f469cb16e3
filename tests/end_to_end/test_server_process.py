"""The server as a process: what stops its start, several workers, and its end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import onnx
import psutil
import pytest
from circus.client import CircusClient

from serving.graphs.manifest import METADATA_KEY
from tests.end_to_end.ports import free_port
from tests.end_to_end.servers import running
from tests.graphs import build_graph, set_metadata, without_free_batch, write_graph
from tests.multipart import CONTENT_TYPE, body, part

pytestmark = pytest.mark.slow

HORSE = (Path(__file__).parents[2] / "examples" / "horse.png").read_bytes()


def serve(models: Path, port: int, *options: str) -> list[str]:
    return [sys.executable, "-m", "serving.cli", "serve", "--models", str(models), "--port", str(port), *options]


def refusal(models: Path, port: int, **environment: str) -> str:
    """Return the one line with which a server refuses to start, promptly, with status 1 and no stack trace."""
    done = subprocess.run(
        serve(models, port), env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line.removeprefix("error: ")


def _unknown_schema(model: onnx.ModelProto) -> onnx.ModelProto:
    manifest = json.loads(next(entry.value for entry in model.metadata_props if entry.key == METADATA_KEY))
    set_metadata(model, json.dumps(manifest | {"schema_version": 99}))
    return model


def _without_output(model: onnx.ModelProto) -> onnx.ModelProto:
    kept = [output for output in model.graph.output if output.name != "rotation_loss"]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    return model


SPOILT: dict[str, tuple[Callable[[], bytes], str]] = {
    "damaged": (lambda: build_graph("bad").SerializeToString()[:700], "damaged, or no ONNX file"),
    "unknown schema": (lambda: _unknown_schema(build_graph("bad")).SerializeToString(), "schema version 99"),
    "no output": (lambda: _without_output(build_graph("bad")).SerializeToString(), "lacks the outputs rotation_loss"),
    "does not run": (
        lambda: without_free_batch(build_graph("bad", formula="transformation")).SerializeToString(),
        "loads, but does not run",
    ),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_bad_model_file_stops_the_start(tmp_path: Path, kind: str) -> None:
    content, reason = SPOILT[kind]
    write_graph(tmp_path, "good")
    bad = tmp_path / "bad" / "model.onnx"
    bad.parent.mkdir()
    bad.write_bytes(content())
    message = refusal(tmp_path, free_port())
    assert message.startswith(f"{bad}: ")
    assert reason in message


def test_two_classifiers_and_no_default_stop_the_start(tmp_path: Path) -> None:
    write_graph(tmp_path, "one")
    write_graph(tmp_path, "two")
    message = refusal(tmp_path, free_port())
    assert "(one, two)" in message
    assert "--default-classifier" in message


def test_a_port_that_is_taken_stops_the_start(tmp_path: Path) -> None:
    write_graph(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert re.search(rf"127\.0\.0\.1 port {port}: .*in use", refusal(tmp_path, port))


def test_a_gpu_that_must_be_there_and_is_not_stops_the_start(tmp_path: Path) -> None:
    write_graph(tmp_path)
    message = refusal(tmp_path, free_port(), QUARTERTURN_DEVICE="cuda", CUDA_VISIBLE_DEVICES="")
    assert message.startswith("the device setting is cuda, but ")


def test_nothing_listens_but_the_port_and_files_of_the_servers_user(tmp_path: Path) -> None:
    write_graph(tmp_path / "models")
    port = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="qt-") as temporary,  # tmp_path may be too long for a socket
        running(serve(tmp_path / "models", port), port, env={**os.environ, "TMPDIR": temporary}) as process,
    ):
        main = psutil.Process(process.pid)
        found = [each for one in (main, *main.children(recursive=True)) for each in one.net_connections("all")]
        assert {each.laddr.port for each in found if each.status == psutil.CONN_LISTEN} == {port}
        assert not [each for each in found if each.type == socket.SOCK_DGRAM]
        paths = {Path(str(each.laddr)) for each in found if each.family == socket.AF_UNIX and each.laddr}
        assert {path.name for path in paths} == {"orders", "events"}
        [folder] = {path.parent for path in paths}
        assert (folder.stat().st_uid, stat.S_IMODE(folder.stat().st_mode)) == (os.getuid(), 0o700)
        client = CircusClient(endpoint=f"ipc://{folder / 'orders'}", timeout=10)
        assert client.call({"command": "numprocesses", "properties": {}})["numprocesses"] == 1
        client.stop()
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        assert not folder.exists()


def test_a_folder_for_temporary_files_with_too_long_a_path_stops_the_start(tmp_path: Path) -> None:
    write_graph(tmp_path / "models")
    long = tmp_path / ("x" * 100)
    long.mkdir()
    message = refusal(tmp_path / "models", free_port(), TMPDIR=str(long))
    assert "set TMPDIR to a folder for temporary files with a shorter" in message
    assert not list(long.iterdir())


def _worker_ids(log: Path) -> set[int]:
    """Return the processes whose access log names a scored request."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return {line["process"] for line in lines if "POST /anomaly_score 200" in line["message"]}


def _ask_until_both_workers_answered(url: str, log: Path) -> set[int]:
    """Send requests four at a time until two processes have answered some; return their process ids."""
    deadline = time.monotonic() + 30
    wrong: list[int] = []

    def ask() -> None:
        for _ in range(5):
            status = httpx.post(f"{url}/anomaly_score", files={"images": HORSE}, timeout=60).status_code
            if status != 200:
                wrong.append(status)

    while len(workers := _worker_ids(log)) < 2:
        assert time.monotonic() < deadline, f"only {workers} answered"
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    return workers


def test_two_workers_answer_and_sigterm_lets_them_finish(tmp_path: Path) -> None:
    write_graph(tmp_path / "models")
    port = free_port()
    log = tmp_path / "log"
    environment = {**os.environ, "QUARTERTURN_ALPHA": "0.001"}
    environment |= {"QUARTERTURN_ACCESS_LOG": "true", "QUARTERTURN_LOG_FORMAT": "json"}
    options: dict[str, Any] = {"env": environment, "stderr": subprocess.STDOUT}
    with (
        log.open("w") as output,
        running(serve(tmp_path / "models", port, "--workers", "2"), port, stdout=output, **options) as process,
    ):
        workers = _ask_until_both_workers_answered(f"http://localhost:{port}", log)
        assert len(workers) == 2
        assert process.pid not in workers

        whole = body(part("images", HORSE, "horse.png"))
        head = f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(whole)}"
        with socket.create_connection(("localhost", port), timeout=30) as begun:
            begun.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode() + whole[:100])
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            time.sleep(1)
            begun.sendall(whole[100:])
            answer = b"".join(iter(lambda: begun.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK"), answer
        assert process.wait(30) == 0
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    text = log.read_text()
    assert "Traceback" not in text
    assert "colours can never raise the alarm at alpha 0.001" in text
