from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from serving.score.journal import JournalError, ScoreRun, open_journal
from serving.score.pipeline import ReadFile, current_stamp
from serving.score.rows import Row

RUN = ScoreRun(["photos"], [["colours", "sha256:01"], ["views", "sha256:02"]], 0.05, 100, 200)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    names = ["a.png", "b \n c.png", os.fsdecode(b"c\xff.png"), "d.png"]
    for name in names:
        (tmp_path / name).write_text(name, errors="surrogateescape")
    return [str(tmp_path / name) for name in names]


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "scores.csv.part"


def rows_of(path: str) -> list[Row]:
    return [Row(path, "colours", "cat", 0.5, -0.1, 1 / 3, False), Row(path, "views", error="no \n image")]


def finish(part: Path, files: list[str], run: ScoreRun = RUN) -> tuple[int, list[str]]:
    """Finish the files that are left; return how many were kept and which were left."""
    with open_journal(part, run) as journal:
        left = list(journal.go_on(iter(files)))
        for path in left:
            journal.append(ReadFile(path, current_stamp(path), None, None), rows_of(path))
        return journal.kept, left


def written(part: Path, files: list[str]) -> Iterator[list[Row]]:
    with open_journal(part, RUN) as journal:
        list(journal.go_on(iter(files)))
        yield from journal.rows()


def test_rows_come_back_in_order_as_they_were(part: Path, files: list[str]) -> None:
    assert finish(part, files) == (0, files)
    assert list(written(part, files)) == [rows_of(path) for path in files]


def test_a_run_goes_on_after_the_last_finished_file(part: Path, files: list[str]) -> None:
    finish(part, files[:2])
    assert finish(part, files) == (2, files[2:])
    assert finish(part, files) == (4, [])
    assert list(written(part, files)) == [rows_of(path) for path in files]


def test_every_place_to_be_cut_off_at_loses_the_last_file_alone(part: Path, files: list[str]) -> None:
    finish(part, files[:1])
    before = len(part.read_bytes())
    finish(part, files[:2])
    whole = part.read_bytes()
    for length in range(before, len(whole)):
        part.write_bytes(whole[:length])
        assert finish(part, files[:2]) == (1, files[1:2])
        assert part.read_bytes() == whole


def test_a_header_that_is_cut_off_holds_nothing_to_lose(part: Path, files: list[str]) -> None:
    finish(part, [])
    header = part.read_bytes()
    for length in (0, 1, 5, 20, len(header) - 1):
        part.write_bytes(header[:length])
        if 0 < length < 10:  # too little to know it by
            with pytest.raises(JournalError, match="not of an unfinished run"):
                finish(part, files)
        else:
            assert finish(part, files) == (0, files)
    part.write_bytes(header)


def test_a_damaged_line_ends_what_is_kept(part: Path, files: list[str]) -> None:
    finish(part, files)
    lines = part.read_bytes().splitlines(keepends=True)
    one_row = json.loads(lines[2])
    one_row["rows"].pop()
    damaged = [b"\0" * 100 + b"\n", b"[]\n", b"{}\n", b"1\n", json.dumps(one_row).encode() + b"\n"]
    for line in damaged:
        part.write_bytes(b"".join([*lines[:2], line, *lines[3:]]))
        assert finish(part, files) == (1, files[1:])
        assert part.read_bytes() == b"".join(lines)


def test_files_that_have_changed_or_come_or_gone_are_scored_from_there(part: Path, files: list[str]) -> None:
    finish(part, files)
    Path(files[2]).write_text("another content")
    assert finish(part, files) == (2, files[2:])
    new = str(Path(files[0]).with_name("aa.png"))
    Path(new).touch()
    assert finish(part, [files[0], new, *files[1:]]) == (1, [new, *files[1:]])
    assert finish(part, [files[0], *files[1:]]) == (1, files[1:])
    Path(files[3]).unlink()
    assert finish(part, files[:3]) == (3, [])
    assert list(written(part, files[:3])) == [rows_of(path) for path in files[:3]]


def test_whole_batches_are_kept_and_the_last_one_where_it_is_finished(part: Path, files: list[str]) -> None:
    finish(part, files[:3])
    with open_journal(part, RUN) as journal:
        assert list(journal.go_on(iter(files[:3]), batch=2)) == []
        assert journal.kept == 3
    with open_journal(part, RUN) as journal:
        assert list(journal.go_on(iter(files), batch=2)) == files[2:]
        assert journal.kept == 2
    assert finish(part, files) == (2, files[2:])
    with open_journal(part, RUN) as journal:
        assert list(journal.go_on(iter(files[:3]), batch=2)) == files[2:3]  # once, the fourth was in its batch
        assert journal.kept == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"alpha": 0.01}, r"with alpha 0\.05, not alpha 0\.01"),
        ({"paths": ["other\n"]}, r"with the files of photos, not the files of other\\n"),
        ({"models": [["colours", "sha256:03"], ["views", "sha256:02"]]}, r"colours \(sha256:01\).*colours \(sha256:03"),
        ({"models": [["views", "sha256:02"]]}, r"colours \(sha256:01\) and views .*, not views"),
        ({"max_image_bytes": 7}, "max_image_bytes 100, not max_image_bytes 7"),
    ],
)
def test_another_run_is_refused_until_it_is_told_to_restart(
    part: Path, files: list[str], change: dict[str, object], said: str
) -> None:
    finish(part, files)
    left = part.read_bytes()
    other = replace(RUN, **change)  # type: ignore[arg-type]
    with pytest.raises(JournalError, match=said), open_journal(part, other):
        raise AssertionError("unreachable")
    assert part.read_bytes() == left
    with open_journal(part, other, restart=True) as journal:
        assert list(journal.go_on(iter(files))) == files
        assert journal.kept == 0
    finish(part, files[:1], other)


def test_restart_drops_the_rows_of_the_same_run_as_well(part: Path, files: list[str]) -> None:
    finish(part, files)
    with open_journal(part, RUN, restart=True) as journal:
        assert list(journal.go_on(iter(files))) == files


@pytest.mark.parametrize("content", [b"path,model\n", b"[]\n", b"\x89PNG\r\n", b'{"quarterturn score": 99}\n'])
def test_a_file_of_another_kind_is_left_alone(part: Path, content: bytes) -> None:
    part.write_bytes(content)
    with pytest.raises(JournalError, match=r"not of an unfinished run .* --restart"), open_journal(part, RUN):
        raise AssertionError("unreachable")
    assert part.read_bytes() == content


def test_what_is_no_file_is_in_the_way(part: Path) -> None:
    os.mkfifo(part)
    with pytest.raises(JournalError, match="no regular file"), open_journal(part, RUN):
        raise AssertionError("unreachable")


def test_two_runs_do_not_write_to_one_file(part: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from serving.score.journal import *\n"
        "with open_journal(Path(sys.argv[1]), ScoreRun([], [], 0.05, 1, 1)): pass\n"
    )
    with open_journal(part, RUN):
        other = subprocess.run([sys.executable, "-c", code, str(part)], capture_output=True, text=True, check=False)
    assert "is being written by another run" in other.stderr.splitlines()[-1]
    with open_journal(part, RUN):
        pass  # the lock is gone with the run
