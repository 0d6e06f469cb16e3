from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.printable import printable


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("photos/été 1.png", "photos/été 1.png"),
        ("a\nb\x1b[31m.png", r"a\nb\x1b[31m.png"),
        (os.fsdecode(b"\xff.png"), r"\udcff.png"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
    ],
)
def test_a_path_is_shown_on_one_line_of_printable_characters(path: str, shown: str) -> None:
    assert printable(Path(path)) == shown
    assert printable(Path(path)).encode()
