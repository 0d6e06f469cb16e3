"""What a run ran on: library versions, device, source revision."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Literal

import torch

LIBRARIES = (
    "torch",
    "torchvision",
    "lightning-fabric",
    "numpy",
    "onnx",
    "onnxscript",
    "onnxruntime-gpu",
    "onnxruntime",
)


def library_versions() -> dict[str, str]:
    """Return the installed versions of Python, Quarterturn and the libraries that decide a run's numbers."""
    versions = {"python": platform.python_version()}
    for name in ("quarterturn", *LIBRARIES):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def source_revision() -> str:
    """Return the git revision of the source, with '+changes' if the tree differs from it; 'unknown' outside git."""
    root = Path(__file__).resolve().parents[1]
    try:
        if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() != root:
            return "unknown"  # installed somewhere inside another project
        revision = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return revision + ("+changes" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def is_first_process() -> bool:
    """Return whether this process writes the run folder: the first of torchrun's, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def accelerator() -> Literal["cuda", "cpu"]:
    """Return where this process trains: on a GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def describe_device(device: torch.device) -> str:
    """Return the device in words: the GPU's name, or the processor type and the number of threads used."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU ({platform.machine()}), {threads} thread{'s' if threads > 1 else ''}"
