"""Hangups: SIGHUP, which asks a server to look at its models again, held until there is somebody who can.

A process that does not expect SIGHUP dies of it. Held here, it waits instead, and children start with it held as well:
so a worker that is still starting when it comes gets it once it is ready. Nothing here does anything on Windows.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType

POSSIBLE = hasattr(signal, "SIGHUP")

logger = logging.getLogger(__name__)


def hold_hangups() -> None:
    """Hold SIGHUP in this thread, and in the threads and processes that it starts from now on."""
    if POSSIBLE:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def release_hangups() -> None:
    """Let SIGHUP come to this thread, also one that was held."""
    if POSSIBLE:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


class HangupThread(threading.Thread):
    """Does something at every SIGHUP to this process; those that come while it is at it count as one more.

    To be made where SIGHUP is held, and started once.
    """

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__(name="hangups", daemon=True)
        self._act = act

    def run(self) -> None:
        """Wait and act, for ever."""
        while True:
            signal.sigwait({signal.SIGHUP})
            try:
                self._act()
            except Exception:
                logger.exception("a SIGHUP came to nothing")

    def pass_on(self, number: int, frame: FrameType | None) -> None:
        """Handle a SIGHUP that came to another thread, which did not hold it: as a signal handler."""
        if self.ident is not None:
            signal.pthread_kill(self.ident, signal.SIGHUP)
