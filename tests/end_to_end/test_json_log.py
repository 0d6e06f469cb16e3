"""The log as JSON: every line that a server writes is an object, from its start to its end, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.end_to_end.ports import free_port
from tests.end_to_end.servers import running
from tests.graphs import write_graph
from tests.pictures import encoded, picture

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def hostile_tiff() -> bytes:
    """A TIFF of which libtiff complains on standard error."""
    data = bytearray(encoded(picture(120, 90), "TIFF", compression="tiff_lzw"))
    for index in range(200, 400):
        data[index] = (data[index] * 7 + 13) % 256
    return bytes(data)


def wait_for(log: Path, text: str, times: int = 1) -> None:
    deadline = time.monotonic() + 60
    while log.read_text().count(text) < times:
        assert time.monotonic() < deadline, text
        time.sleep(0.05)


@pytest.mark.parametrize("command", [["serving.cli", "serve"], ["bentoml", "serve", "serving.service:Quarterturn"]])
def test_every_line_is_a_json_object(tmp_path: Path, command: list[str]) -> None:
    path = write_graph(tmp_path / "models")
    environment = {**os.environ, "QUARTERTURN_LOG_FORMAT": "json", "QUARTERTURN_ACCESS_LOG": "true"}
    environment |= {"QUARTERTURN_MODELS": str(tmp_path / "models")}
    port, log = free_port(), tmp_path / "log"
    options: dict[str, Any] = {"cwd": ROOT, "env": environment, "stderr": subprocess.STDOUT}
    url = f"http://localhost:{port}"
    with (
        log.open("w") as output,
        running([sys.executable, "-m", *command, "--port", str(port)], port, stdout=output, **options) as process,
    ):
        answer = httpx.post(f"{url}/classify", files={"images": hostile_tiff()}, timeout=60)
        assert answer.status_code == 422
        assert httpx.get(f"{url}/nothing", timeout=60).status_code == 404
        wait_for(log, "Using code not yet in table")
        path.write_bytes(b"junk")
        process.send_signal(signal.SIGHUP)
        wait_for(log, "models not reloaded")
        [worker] = [child for child in psutil.Process(process.pid).children() if "--worker-id" in child.cmdline()]
        worker.send_signal(signal.SIGABRT)  # faulthandler or not, an interpreter's last words are no JSON
        wait_for(log, "Service quarterturn initialized", 2)
        assert httpx.get(f"{url}/readyz", timeout=60).status_code == 200
        if command[0] == "serving.cli":
            wait_for(log, "Ready at")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert all(
        isinstance(record, dict) and {"time", "level", "logger", "process", "message"} <= record.keys()
        for record in records
    )
    assert len([record for record in records if "/nothing" in record["message"]]) == 1  # one line a request
    by_logger = {record["logger"]: record for record in records}
    assert by_logger["stderr"]["message"].endswith("Using code not yet in table.")
    assert by_logger["stderr"]["level"] == "warning"
    assert by_logger["serving.processes.supervisor"]["process"] == process.pid


def test_a_refused_start_says_why_in_json(tmp_path: Path) -> None:
    write_graph(tmp_path).write_bytes(b"junk")
    done = subprocess.run(
        [sys.executable, "-m", "serving.cli", "serve", "--models", str(tmp_path), "--port", str(free_port())],
        env={**os.environ, "QUARTERTURN_LOG_FORMAT": "json"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "damaged, or no ONNX file" in [json.loads(line)["message"] for line in done.stdout.splitlines()][-1]
