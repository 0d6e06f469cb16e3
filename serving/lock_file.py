"""Lock file: the sha256 of every model file that may be served, so that no other file is.

It has the form that ``sha256sum`` writes, paths being those in the models folder:

    cd models && sha256sum */model.onnx > ../models.lock
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


class LockError(RuntimeError):
    """Model files that are not those of the lock file, or a lock file that cannot be read; the message names which."""


def file_digest(path: Path) -> str:
    """Return "sha256:" and the hexadecimal digest of a file. Raises OSError."""
    with path.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def check_files(lock_file: Path, folder: Path, paths: Sequence[Path]) -> None:
    """Check that the lock file lists just these files of the folder, each with its digest. Raises LockError."""
    locked = _read(lock_file)
    found = {path.relative_to(folder).as_posix(): path for path in paths}
    for name in sorted(locked.keys() - found.keys()):
        raise LockError(f"{lock_file}: lists {name}, which is not in {folder}")
    for name in sorted(found.keys() - locked.keys()):
        raise LockError(f"{found[name]}: is not in the lock file {lock_file}")
    for name, path in found.items():
        try:
            digest = file_digest(path)
        except OSError as error:
            raise LockError(f"{path}: cannot be read: {error.strerror or error}") from error
        if digest != f"sha256:{locked[name]}":
            raise LockError(f"{path}: its {digest} is not the one in the lock file {lock_file}")


def _read(lock_file: Path) -> dict[str, str]:
    """Return the digest of each path in the lock file."""
    try:
        lines = lock_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LockError(f"{lock_file}: cannot be read as a lock file: {error}") from error
    locked: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line.strip())
        if not line.strip():
            continue
        if match is None or match[2] in locked:
            raise LockError(f"{lock_file} line {number}: not `SHA256  PATH`, each path once, as sha256sum writes it")
        locked[match[2]] = match[1]
    if not locked:
        raise LockError(f"{lock_file}: lists no file")
    return locked
