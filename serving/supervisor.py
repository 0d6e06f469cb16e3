"""Supervisor: what the server's main process does for its workers beside what BentoML's process manager does.

It replaces a worker that died at once, where the manager (circus) would look for it every ten seconds, and it passes
SIGHUP on, so that every worker reloads the models, where the manager would restart them.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from types import FrameType
from typing import Any

import psutil
from circus.exc import ConflictError
from tornado.ioloop import IOLoop

# No worker is looked after more often than that, so that one that cannot start is not restarted without a pause.
PAUSE_SECONDS = 0.5
_WORKER_MODULE = "_bentoml_impl.worker.service"

logger = logging.getLogger(__name__)


def supervise() -> None:
    """Take over the signals once the process manager runs. To be called in the main thread, before it starts."""
    if hasattr(signal, "SIGHUP"):
        IOLoop.current().add_callback(_take_over)


def workers() -> list[psutil.Process]:
    """Return the worker processes below this one."""
    found = []
    for child in psutil.Process().children():
        try:
            if _WORKER_MODULE in child.cmdline():
                found.append(child)
        except psutil.Error:  # gone meanwhile
            continue
    return found


def _take_over() -> None:
    manager = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)  # circus.sighandler.SysHandler
    arbiter = getattr(getattr(manager, "controller", None), "arbiter", None)
    if arbiter is None:
        logger.warning("the process manager is not the one expected: SIGHUP is left to it")
        return
    signal.signal(signal.SIGHUP, _reload_workers)
    signal.signal(signal.SIGCHLD, _Replacer(arbiter))


def _reload_workers(number: int, frame: FrameType | None) -> None:
    for worker in workers():
        worker.send_signal(signal.SIGHUP)


class _Replacer:
    """Handles SIGCHLD: lets the arbiter look after its workers soon."""

    def __init__(self, arbiter: Any) -> None:
        self._arbiter = arbiter
        self._last = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        delay = max(0.0, self._last + PAUSE_SECONDS - time.monotonic())
        self._last = time.monotonic() + delay
        self._arbiter.loop.add_callback_from_signal(self._arbiter.loop.call_later, delay, self._look)

    async def _look(self) -> None:
        with contextlib.suppress(ConflictError):  # it is at it already, or stopping
            await self._arbiter.manage_watchers()
