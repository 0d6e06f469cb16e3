"""Atomic writing, on a disk that is full and by a process that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.files import write_atomically, write_together, write_with_folders

# A limit on the size of files stands in for a full disk: writing past it fails in the same place, with OSError.
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from serving.files import write_with_folders

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_with_folders({Path(name): b"new" * int(size) for name, size in zip(sys.argv[1::2], sys.argv[2::2])})
except OSError as error:
    sys.exit(f"failed: {error.strerror}")
"""


def on_a_full_disk(**sizes: int) -> str:
    arguments = [item for name, size in sizes.items() for item in (name, str(size))]
    done = subprocess.run([sys.executable, "-c", FULL_DISK, *arguments], capture_output=True, text=True, check=False)
    return done.stderr.strip()


def test_the_content_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"one", b"", b"three"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    """Threads have one process number, as processes of two machines may have that share a folder."""
    path, contents = tmp_path / "file", [bytes([value]) * 100_000 for value in range(4)]

    def write_often(content: bytes) -> None:
        for _ in range(20):
            write_atomically(path, content)
            assert path.read_bytes() in contents

    with ThreadPoolExecutor(len(contents)) as pool:
        list(pool.map(write_often, contents))
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_place_of_a_file_is_refused_before_any_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "first").write_bytes(b"old")
    (tmp_path / "second").mkdir()
    with pytest.raises(IsADirectoryError, match=r"Is a directory: .*second"):
        write_together({tmp_path / "first": b"new", tmp_path / "second": b"new"})
    assert (tmp_path / "first").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def test_on_a_full_disk_the_old_file_stays_and_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    assert on_a_full_disk(**{str(path): 1000}) == "failed: File too large"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_of_several_files_none_is_replaced_if_one_does_not_fit(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"old")
    assert on_a_full_disk(**{str(small): 1, str(large): 1000}) == "failed: File too large"
    assert small.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [small]
    assert on_a_full_disk(**{str(small): 1, str(large): 2}) == ""
    assert (small.read_bytes(), large.read_bytes()) == (b"new", b"newnew")


def test_on_a_full_disk_folders_that_were_made_go_again(tmp_path: Path) -> None:
    old, small, large = (
        tmp_path / "old",
        tmp_path / "old" / "one" / "two" / "small",
        tmp_path / "old" / "other" / "large",
    )
    old.mkdir()
    assert on_a_full_disk(**{str(small): 1, str(large): 1000}) == "failed: File too large"
    assert list(tmp_path.rglob("*")) == [old]
    assert on_a_full_disk(**{str(small): 1, str(large): 2}) == ""
    assert (small.read_bytes(), large.read_bytes()) == (b"new", b"newnew")


def test_a_folder_that_another_has_filled_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = tmp_path / "new" / "theirs"

    def no_space(descriptor: int) -> None:
        theirs.write_bytes(b"theirs")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_with_folders({tmp_path / "new" / "ours": b"ours"})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [theirs]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_together({tmp_path / "no" / "file": b"x"})
    assert list(tmp_path.iterdir()) == []
