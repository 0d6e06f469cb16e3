"""Two servers of one account, which share BentoML's home: neither touches what is the other's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.ports import free_port
from tests.end_to_end.servers import running
from tests.graphs import write_graph

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
HORSE = (ROOT / "examples" / "horse.png").read_bytes()
COUNT = 'quarterturn_requests_total{endpoint="/classify",status="200"}'


def classified(port: int) -> float:
    page = httpx.get(f"http://localhost:{port}/metrics", timeout=60).text
    return next((float(line.split()[-1]) for line in page.splitlines() if line.startswith(COUNT)), 0.0)


@pytest.mark.parametrize("other", ["quarterturn serve", "bentoml serve"])
def test_each_counts_its_own_and_goes_on_when_the_other_starts_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    write_graph(tmp_path / "models")
    monkeypatch.setenv("QUARTERTURN_MODELS", str(tmp_path / "models"))
    port, other_port = free_port(), free_port()
    ours = [sys.executable, "-m", "serving.cli", "serve", "--port"]
    bentoml = [sys.executable, "-m", "bentoml", "serve", "serving.service:Quarterturn", "--port"]
    with (tmp_path / "log").open("w") as log, running([*ours, str(port)], port, stdout=log, stderr=subprocess.STDOUT):
        for _ in range(3):
            httpx.post(f"http://localhost:{port}/classify", files={"images": HORSE}, timeout=60).raise_for_status()
        command = [*(ours if other == "quarterturn serve" else bentoml), str(other_port)]
        with running(command, other_port, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT):
            assert classified(port) == 3
            assert classified(other_port) == 0
            httpx.post(f"http://localhost:{other_port}/classify", files={"images": HORSE}, timeout=60)
            assert classified(other_port) == 1
        assert classified(port) == 3
    assert "Traceback" not in (tmp_path / "log").read_text()
