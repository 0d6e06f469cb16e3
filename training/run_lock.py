"""One training at a time in a run folder: a lock that ends with the process that holds it, however that ends."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving.files import make_folder, remove_empty
from training.progress import note
from training.run_folder import RunError

LOCK_FILE = ".lock"
SECONDS_BETWEEN_TRIES = 0.2
# What a file system answers that has no locks at all.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def alone(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold run folder ``folder``, made if it is not there, for this process.

    Raises RunError if it cannot be written, or another process holds it for longer than ``patience`` seconds. Nothing
    of the lock is left behind, and no folder that was made for it and stayed empty. Where a file system has no locks it
    is held by nobody, which a note says. A second call in the same process is another holder.
    """
    made: list[Path] = []
    try:
        try:
            make_folder(folder, made)
        except OSError as error:
            raise _not_written(folder, error) from error
        with _held(folder / LOCK_FILE, patience):
            yield
    finally:
        remove_empty(made)


@contextmanager
def _held(path: Path, patience: float) -> Iterator[None]:
    end = time.monotonic() + patience
    while (lock := _try(path)) is None:
        if time.monotonic() >= end:
            raise RunError(f"{path.parent} is being trained by another process; wait for it, or stop it")
        time.sleep(SECONDS_BETWEEN_TRIES)
    try:
        yield
    finally:
        if lock.is_locked:
            with contextlib.suppress(OSError):
                path.unlink()  # while it is held: see _try
        os.close(lock.descriptor)


@dataclass(frozen=True)
class _Lock:
    """An open file, and whether it could be locked."""

    descriptor: int
    is_locked: bool


def _try(path: Path) -> _Lock | None:
    """Return the open, locked file; None if another process holds it.

    Who lets go removes the file, so a lock may turn out to be on one that is gone, and bars nobody: once more then.
    """
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise _not_written(path.parent, error) from error
        try:
            _lock(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(descriptor)
                raise _not_written(path.parent, error) from error
            return _unlocked(path, descriptor)
        except ImportError:
            return _unlocked(path, descriptor)
        if _is_at(path, descriptor):
            return _Lock(descriptor, is_locked=True)
        os.close(descriptor)


def _unlocked(path: Path, descriptor: int) -> _Lock:
    note(f"{path.parent}: no locks here; let no other process train in this folder")
    return _Lock(descriptor, is_locked=False)


def _lock(descriptor: int) -> None:
    import fcntl  # Unix alone has it

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _not_written(folder: Path, error: OSError) -> RunError:
    return RunError(f"could not write {folder}: {error.strerror or error}; what was there is intact")
