"""/metrics before the first request: the counters that alerts watch begin at 0, not with their first event."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.ports import free_port
from tests.end_to_end.servers import running
from tests.graphs import write_graph

WATCHED = (
    *(f'requests_total{{endpoint="/{path}",status="503"}}' for path in ("classify", "anomaly_score")),
    *(f'verdicts_total{{verdict="{verdict}"}}' for verdict in ("anomaly", "normal")),
    *(f'model_reloads_total{{outcome="{outcome}"}}' for outcome in ("done", "refused")),
    *(f'{name}{{model="{model}"}}' for name in ("anomalies_total", "p_value_count") for model in ("colours", "views")),
)


@pytest.mark.slow
def test_what_alerts_watch_is_there_from_the_start(tmp_path: Path) -> None:
    write_graph(tmp_path / "models", "colours")
    write_graph(tmp_path / "models", "views", formula="transformation")
    port = free_port()
    command = [sys.executable, "-m", "serving.cli", "serve", "--models", str(tmp_path / "models"), "--port", str(port)]
    with (tmp_path / "log").open("w") as log, running(command, port, stdout=log, stderr=subprocess.STDOUT):
        page = httpx.get(f"http://localhost:{port}/metrics", timeout=60).text
    values = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert {name: float(values[f"quarterturn_{name}"]) for name in WATCHED} == dict.fromkeys(WATCHED, 0.0)
