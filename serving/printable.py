"""Printable paths: a file's name as a message may show it, whatever bytes the name holds."""

from __future__ import annotations

from pathlib import Path


def printable(path: Path | str) -> str:
    """Return a path for a person to read: one line, every character printable, the others as escapes like ``\\n``."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in str(path)
    )
