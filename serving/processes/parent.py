"""Parent: the main process, whose end is the end of its workers, however it came.

One that was killed can end nobody. Its workers would go on to answer, and to hold the port against the next start, with
nobody to replace, reload or stop them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

# Not QUARTERTURN_...: it is no setting.
VARIABLE = "_QUARTERTURN_MAIN_PROCESS"


def be_parent() -> None:
    """Tell the children of this process, from now on, that it is the main one."""
    os.environ[VARIABLE] = str(os.getpid())


def is_orphan(environment: Mapping[str, str]) -> bool:
    """Say whether the main process that started this one has ended; never where there was none, or on Windows.

    Asked of the number it gave, as it may have ended before anything was asked here.
    """
    main = environment.get(VARIABLE, "")
    return os.name == "posix" and main not in ("", str(os.getpid()), str(os.getppid()))
