"""Supervisor: what the server's main process does for its workers beside what BentoML's process manager does.

It replaces a worker that died at once, where the manager (circus) would look for it every ten seconds, and in a
container never, and drops the gauges of the dead one. At SIGHUP, where the manager would restart every worker, it
checks the models folder and, where it is good, has every worker take it over. At the end it gives the workers as long
as their requests may take, where the manager would wait a day for a client that does not read its answer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from types import FrameType
from typing import Any

import psutil
from circus.exc import ConflictError
from tornado.ioloop import IOLoop

from serving.graphs.live_models import refuse_reload
from serving.metrics import drop_gauges_of_others, metrics
from serving.processes.hangups import POSSIBLE, HangupThread
from serving.processes.model_check import ModelCheckError, check_apart
from serving.processes.server_folder import ServerFolder
from serving.settings import Settings

# No worker is looked after more often than that, so that one that cannot start is not restarted without a pause.
PAUSE_SECONDS = 0.5
# After SIGTERM requests have the time they always have, and their answers so much more to reach clients; a worker that
# is still there then is killed.
DRAIN_SECONDS = 5.0
_WORKER_MODULE = "_bentoml_impl.worker.service"

logger = logging.getLogger(__name__)


def seconds_to_end(settings: Settings) -> float:
    """Return how long after SIGTERM a worker that is still there is killed."""
    return settings.max_request_seconds + DRAIN_SECONDS


def supervise(server: ServerFolder, settings: Settings) -> None:
    """Act at SIGHUP, and look after the workers once the process manager runs.

    To be called in the main thread, which holds SIGHUP, before the manager starts.
    """
    if not POSSIBLE:
        return
    hangups = HangupThread(lambda: reload_models(server))
    hangups.start()
    IOLoop.current().add_callback(_take_over, server, hangups, seconds_to_end(settings))


def reload_models(server: ServerFolder) -> bool:
    """Check the models folder; where it is good, have the workers take it over. Say whether it was.

    Where it is not, for whatever reason, everything stays as it was, and the log says why.
    """
    try:
        check_apart(server)
    except Exception as error:
        refuse_reload(logger, error, (ModelCheckError, OSError))
        return False
    for worker in workers():
        with contextlib.suppress(psutil.Error):  # gone meanwhile: the next one begins with the new models
            worker.send_signal(signal.SIGHUP)
    metrics().reloads.labels("done").inc()
    return True


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


def _take_over(server: ServerFolder, hangups: HangupThread, seconds: float) -> None:
    manager = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)  # circus.sighandler.SysHandler
    signal.signal(signal.SIGHUP, hangups.pass_on)
    arbiter = getattr(getattr(manager, "controller", None), "arbiter", None)
    if arbiter is None:
        logger.warning("the process manager is not the one expected: dead workers are left to it")
        return
    for watcher in arbiter.iter_watchers():
        watcher.respawn = True
        watcher.graceful_timeout = seconds
    signal.signal(signal.SIGCHLD, _Replacer(arbiter, server))


class _Replacer:
    """Handles SIGCHLD: lets the arbiter look after its workers soon."""

    def __init__(self, arbiter: Any, server: ServerFolder) -> None:
        self._arbiter = arbiter
        self._server = server
        self._last = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        delay = max(0.0, self._last + PAUSE_SECONDS - time.monotonic())
        self._last = time.monotonic() + delay
        self._arbiter.loop.add_callback_from_signal(self._arbiter.loop.call_later, delay, self._look)

    async def _look(self) -> None:
        with contextlib.suppress(ConflictError):  # it is at it already, or stopping
            await self._arbiter.manage_watchers()
        alive = {pid for watcher in self._arbiter.iter_watchers() for pid in watcher.processes}
        drop_gauges_of_others(self._server.metrics, {os.getpid(), *alive})
