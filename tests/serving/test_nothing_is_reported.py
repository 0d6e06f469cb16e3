"""ONNX Runtime reports to its makers unless it is told not to: whatever of ours imports it tells it so before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.graphs import write_graph

# With any of these it reports nothing anyway.
QUIET = ("ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "CI", "GITHUB_ACTIONS", "TF_BUILD")
LOAD = """
import sys
from pathlib import Path
{first}
from serving.graphs.graph import load_graph
load_graph(Path(sys.argv[1])).warm()
"""


def left_behind(tmp_path: Path, first: str) -> list[str]:
    """Load and run a graph in another process; return what that leaves in its home and folder for temporary files."""
    graph = write_graph(tmp_path / "models")
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in QUIET}
    environment |= {"HOME": str(empty), "TMPDIR": str(empty), "XDG_CACHE_HOME": str(empty / "cache")}
    subprocess.run([sys.executable, "-c", LOAD.format(first=first), str(graph)], env=environment, check=True)
    return sorted(path.name for path in empty.rglob("*"))


@pytest.mark.parametrize("first", ["", "import training.quantisation", "import benchmarks.service.work"])
def test_onnx_runtime_keeps_no_record_to_send(tmp_path: Path, first: str) -> None:
    assert left_behind(tmp_path, first) == []
