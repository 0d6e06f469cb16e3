"""Memory of this process, or of one made for it, in bytes, as the system counts it."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import psutil

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident() -> int:
    """Return how much memory is in use, after what can be freed was."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def reset_peak() -> bool:
    """Measure ``peak`` from now on; return whether this system lets it."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def peak() -> int:
    """Return the most memory that was in use since ``reset_peak``."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def printed_by(program: str, *arguments: str) -> list[int]:
    """Return the numbers that a program prints, run in a process of its own, whose memory nothing has used before."""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(number) for number in done.stdout.split()]
