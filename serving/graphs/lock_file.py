"""Lock file: the sha256 of every model file that may be served, so that no other file is.

It has the form that ``sha256sum`` writes, paths being those in the models folder:

    cd models && sha256sum */model.onnx > ../models.lock
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


class LockError(RuntimeError):
    """Model files that are not those of the lock file, or a lock file that cannot be read; the message names which."""


def digest_of(data: bytes) -> str:
    """Return "sha256:" and the hexadecimal digest of the bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class LockFile:
    """A lock file that was read: the digest of each path in the models folder ``folder``."""

    path: Path
    folder: Path
    digests: Mapping[str, str]

    @classmethod
    def read(cls, path: Path, folder: Path) -> LockFile:
        """Read the lock file of a models folder. Raises LockError."""
        return cls(path, folder, _read(path))

    def check_names(self, paths: Sequence[Path]) -> None:
        """Check that it lists just these files of the folder. Raises LockError."""
        found = {self._name(path): path for path in paths}
        for name in sorted(self.digests.keys() - found.keys()):
            raise LockError(f"{self.path}: lists {name}, which is not in {self.folder}")
        for name in sorted(found.keys() - self.digests.keys()):
            raise LockError(f"{found[name]}: is not in the lock file {self.path}")

    def check(self, path: Path, data: bytes) -> None:
        """Check that these bytes, read from a file it lists, are those it lists. Raises LockError."""
        digest = digest_of(data)
        if digest != self.digests[self._name(path)]:
            raise LockError(f"{path}: its {digest} is not the one in the lock file {self.path}")

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


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
        locked[match[2]] = f"sha256:{match[1]}"
    if not locked:
        raise LockError(f"{lock_file}: lists no file")
    return locked
