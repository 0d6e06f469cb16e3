"""A terminal for standard error, and what was drawn on it."""

from __future__ import annotations

import os
import pty
from collections.abc import Callable

import pytest


def drawn_on_a_terminal(draw: Callable[[], None]) -> str:
    """Call ``draw`` with a real terminal, 120 columns wide, as standard error; return what it wrote there."""
    reading, writing = pty.openpty()
    with pytest.MonkeyPatch.context() as patch, os.fdopen(writing, "w") as terminal:
        patch.setenv("TERM", "xterm")
        patch.setenv("COLUMNS", "120")
        patch.setattr("sys.stderr", terminal)
        draw()
    written = b""
    with os.fdopen(reading, "rb", buffering=0) as screen:
        while True:
            try:
                part = screen.read(4096)
            except OSError:  # Linux's way to say that the other end is closed
                break
            if not part:
                break
            written += part
    return written.decode()
