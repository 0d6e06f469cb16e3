"""Parent: the main process, whose end is the end of its workers, however it came.

One that was killed can end nobody. Its workers would go on to answer, and to hold the port against the next start, with
nobody to replace, reload or stop them.
"""

from __future__ import annotations

import os


class Parent:
    """The process that started this one; to be made before it may have ended."""

    def __init__(self) -> None:
        self._pid = os.getppid()

    def is_gone(self) -> bool:
        """Say whether it has ended; never on Windows, where a process keeps its parent's number."""
        return os.getppid() != self._pid
