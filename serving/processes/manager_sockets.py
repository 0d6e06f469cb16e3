"""Manager sockets: where BentoML's process manager (circus) takes its orders, within the server's private folder.

BentoML gives it two TCP ports of this machine that ask nobody for a key: every account of the machine could stop the
server through them, and run any command as the server's user. It also looks for free ports some time before it takes
them, so that now and then a start finds one taken. Files in a folder of the server's user alone have neither fault.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving.printable import printable
from serving.processes.server_folder import ServerFolder

# How BentoML calls the manager's classes, of which it makes one.
_KINDS = ("Arbiter", "ThreadedArbiter")

logger = logging.getLogger(__name__)


def keep_manager_private(server: ServerFolder) -> None:
    """Have the manager that this process starts next listen in the server folder; Windows keeps BentoML's ports.

    Raises OSError where the system takes no sockets of so long a path.
    """
    if os.name != "posix":
        return
    from bentoml._internal.utils import circus  # workers need none of it

    # Those of an earlier start that came to nothing are still wrapped.
    kinds = [inspect.unwrap(getattr(circus, name)) for name in _KINDS if hasattr(circus, name)]
    if len(kinds) < len(_KINDS):
        logger.warning("the process manager is not the one expected: it takes orders on ports of this machine")
        return
    sockets = {"endpoint": _address(server.path / "orders"), "pubsub_endpoint": _address(server.path / "events")}

    def restore() -> None:
        for name, kind in zip(_KINDS, kinds, strict=True):
            setattr(circus, name, kind)

    for name, kind in zip(_KINDS, kinds, strict=True):
        setattr(circus, name, _once_listening_at(kind, sockets, restore))


def _address(path: Path) -> str:
    import zmq

    if len(os.fsencode(path)) > zmq.IPC_PATH_MAX_LEN or not str(path).isprintable():
        name = printable(path)
        raise OSError(
            f"no path for a socket: {name}; set TMPDIR to a folder for temporary files with a shorter, plain one"
        )
    return f"ipc://{path}"


def _once_listening_at(
    kind: Callable[..., Any], sockets: dict[str, str], restore: Callable[[], None]
) -> Callable[..., Any]:
    @functools.wraps(kind, updated=())
    def make(*args: Any, **options: Any) -> Any:
        restore()
        return kind(*args, **{**options, **sockets})

    return make
