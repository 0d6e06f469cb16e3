"""ONNX Runtime reports to its makers unless it is told not to: whatever of ours imports it tells it so before.

That nothing is left behind shows something from its release 1.29 on; what it is told shows with any.
"""

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
import os, sys
from pathlib import Path

class Watch:
    def find_spec(name, path=None, target=None):
        if name == "onnxruntime":
            print(os.environ.get("ORT_DISABLE_TELEMETRY"))

sys.meta_path.insert(0, Watch)
{first}
from serving.graphs.graph import load_graph
load_graph(Path(sys.argv[1])).warm()
"""


def load_and_run(tmp_path: Path, first: str) -> tuple[str, list[str]]:
    """Load and run a graph in another process.

    Return what the environment says when ONNX Runtime is first imported, and what is left behind in the home and the
    folder for temporary files.
    """
    graph = write_graph(tmp_path / "models")
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in QUIET}
    environment |= {"HOME": str(empty), "TMPDIR": str(empty), "XDG_CACHE_HOME": str(empty / "cache")}
    command = [sys.executable, "-c", LOAD.format(first=first), str(graph)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip(), sorted(path.name for path in empty.rglob("*"))


@pytest.mark.parametrize("first", ["", "import training.quantisation", "import benchmarks.service.work"])
def test_onnx_runtime_keeps_no_record_to_send(tmp_path: Path, first: str) -> None:
    assert load_and_run(tmp_path, first) == ("1", [])
