"""Parent: the main process, whose end is the end of its workers, however it came.

One that was killed can end nobody. Its workers would go on to answer, and to hold the port against the next start, with
nobody to replace, reload or stop them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Mapping

LOOK_SECONDS = 1.0
# Not QUARTERTURN_...: it is no setting.
VARIABLE = "_QUARTERTURN_MAIN_PROCESS"

logger = logging.getLogger(__name__)


def be_parent() -> None:
    """Tell the children of this process, from now on, that it is the main one."""
    os.environ[VARIABLE] = str(os.getpid())


async def end_with_parent(seconds_to_end: float) -> None:
    """Wait until the main process is gone, end this one as it would, and kill it where that takes too long."""
    while not is_orphan(os.environ):
        await asyncio.sleep(LOOK_SECONDS)
    logger.error("the main process is gone: this worker ends")
    signal.raise_signal(signal.SIGTERM)
    await asyncio.sleep(seconds_to_end)
    os.kill(os.getpid(), signal.SIGKILL)


def is_orphan(environment: Mapping[str, str]) -> bool:
    """Say whether the main process that started this one has ended; never where there was none, or on Windows.

    Asked of the number it gave, as it may have ended before anything was asked here.
    """
    main = environment.get(VARIABLE, "")
    return os.name == "posix" and main not in ("", str(os.getpid()), str(os.getppid()))
