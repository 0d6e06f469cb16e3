"""Under what conditions figures were measured: machine, software, revision, and what else it was doing."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "bentoml", "fastapi", "httptools", "litserve", "numpy", "onnxruntime", "onnxruntime-gpu", "orjson", "pillow",
    "starlette", "uvicorn", "uvloop",
)  # fmt: skip
_VERSIONS = """
import importlib.metadata, json, platform, sys
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def conditions(command: Sequence[str]) -> dict[str, Any]:
    """Return what can be known before a run; the load average is that of the last minute."""
    return {
        "command": " ".join(command),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "revision": revision(),
        "load_average_before": round(os.getloadavg()[0], 2),
        "settings": {name: value for name, value in sorted(os.environ.items()) if name.startswith("QUARTERTURN_")},
    }


def versions(python: Path) -> dict[str, str]:
    """Return the versions of Python and of PACKAGES in the environment of an interpreter; those absent are left out."""
    done = subprocess.run([str(python), "-c", _VERSIONS, *PACKAGES], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model() -> str:
    """Return the processor's name, or at least its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def revision() -> str:
    """Return the commit of the checkout, with "+changes" where files differ from it, or "unknown"."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        return commit + ("+changes" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
