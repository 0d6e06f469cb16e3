"""Server folder: the private files of one running server, which its main process makes and its workers find.

In it are copies of the models as they were checked, from which alone workers load, the files in which they count
(Prometheus's multiprocess mode), and the sockets of their manager (``manager_sockets``). So nothing that happens to the
models folder, or to another server of the same account, reaches a worker.
"""

from __future__ import annotations

import atexit
import importlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None

# Not QUARTERTURN_...: it is no setting.
VARIABLE = "_QUARTERTURN_SERVER_FOLDER"
_PREFIX = "quarterturn-server-"
_MODELS, _STATES, _METRICS = "models", "states", "metrics"


@dataclass(frozen=True)
class ServerFolder:
    """The folder ``path``: ``models`` is a link to the state of the models folder that was last found good."""

    path: Path

    @property
    def models(self) -> Path:
        """The models that workers load, as a models folder; resolve it once a load, for a reload lets it change."""
        return self.path / _MODELS

    @property
    def metrics(self) -> Path:
        """The folder for the environment variable PROMETHEUS_MULTIPROC_DIR."""
        return self.path / _METRICS

    def new_state(self) -> Path:
        """Return an empty folder for copies of the models."""
        return Path(tempfile.mkdtemp(dir=self.path / _STATES))

    def adopt(self, state: Path) -> None:
        """Let ``models`` be this state from now on.

        Of the others only the one before is kept, for a worker that is loading it.
        """
        before = self.models.resolve()
        link = self.path / "next"
        link.symlink_to(state.relative_to(self.path))
        link.replace(self.models)
        for other in (self.path / _STATES).iterdir():
            if other not in (state, before):
                shutil.rmtree(other, ignore_errors=True)


def make_server_folder() -> ServerFolder:
    """Make this process's server folder, which goes when the process ends, and tell its children of it.

    Folders of servers that were killed are removed. Raises OSError.
    """
    _remove_left_behind()
    path = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
    _lock(path)
    for name in (_STATES, _METRICS):
        (path / name).mkdir()
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    os.environ[VARIABLE] = str(path)
    return ServerFolder(path)


def server_folder(environment: Mapping[str, str]) -> ServerFolder | None:
    """Return the folder that the main process has made, or None where there is no main process."""
    path = environment.get(VARIABLE)
    return ServerFolder(Path(path)) if path else None


def _lock(path: Path) -> bool:
    """Lock a folder for as long as this process lives; say whether that was possible.

    A lock also keeps systemd-tmpfiles from removing what has lain in the folder for days.
    """
    if _fcntl is None:
        return False
    handle = os.open(path, os.O_RDONLY)
    try:
        _fcntl.flock(handle, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return False
    return True


def _remove_left_behind() -> None:
    if _fcntl is None:
        return
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            # A server makes its folder, locks it, and then fills it: an empty one may be about to be locked.
            if path.stat().st_uid == os.getuid() and any(path.iterdir()) and _lock(path):
                shutil.rmtree(path)
