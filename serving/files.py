"""Writing files so that a reader, or a crash, never sees half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, which holds its old content or all of the new at every moment.

    Raises OSError (a full disk, say) with the old file untouched and nothing left behind.
    """
    write_together({path: data})


def write_together(contents: dict[Path, bytes]) -> None:
    """Write several files, each atomically and none before all of them are on the disk.

    Raises OSError with the old files untouched and nothing left behind, also where a folder is in the place of one, at
    which a rename after others would fail. Only a crash between two renames, which take no space and no time, can leave
    some new and some old.
    """
    for path in contents:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    written: dict[Path, Path] = {}
    try:
        for path, data in contents.items():
            # A random part, as processes of two machines, which share a folder, may have one number.
            temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
            written[temporary] = path
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for temporary, path in written.items():
            temporary.replace(path)
    except BaseException:
        for temporary in written:
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise


def write_with_folders(contents: dict[Path, bytes]) -> None:
    """Write several files as ``write_together``, and make the folders that are not there.

    Raises OSError with the old files untouched and nothing left behind, of the folders made neither: an empty one would
    pass for what should have been written.
    """
    made: list[Path] = []
    try:
        for path in contents:
            make_folder(path.parent, made)
        write_together(contents)
    except BaseException:
        remove_empty(made)
        raise


def make_folder(folder: Path, made: list[Path]) -> None:
    """Make a folder and those above it that are not there, and add them to ``made``. Raises OSError."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        try:
            place.mkdir()
        except FileExistsError:  # another process was quicker: it is not ours to remove
            continue
        made.append(place)


def remove_empty(made: list[Path]) -> None:
    """Remove what ``make_folder`` made, but for folders into which something has been put."""
    for folder in reversed(made):
        with contextlib.suppress(OSError):
            folder.rmdir()
