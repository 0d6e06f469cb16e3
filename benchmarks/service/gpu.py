"""Whether the GPU part of the benchmark can run, asked of the environment that serves."""

from __future__ import annotations

import subprocess
from pathlib import Path

_TRY = """
from benchmarks.service.work import Work
from benchmarks.service.workloads import CLASSIFY
Work(CLASSIFY.graph, 1, cuda=True).warm()
"""


def gpu_obstacle(python: Path) -> str | None:
    """Say why ONNX Runtime of that interpreter's environment cannot run a graph on a GPU; None where it can."""
    root = Path(__file__).parents[2]
    done = subprocess.run([str(python), "-c", _TRY], cwd=root, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    return f"ONNX Runtime runs no graph on a GPU ({(done.stderr.strip().splitlines() or ['no reason given'])[-1]})"
