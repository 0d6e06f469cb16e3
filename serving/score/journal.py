"""Score journal: the rows of a scoring run that is not finished, from which the same run goes on after an interruption.

The file ``OUT.part`` is JSON lines: first what the rows depend on (ScoreRun), then each finished file in its turn with
its rows. What a killed process left half written at the end is cut off.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from serving.printable import printable
from serving.score.pipeline import ReadFile, Stamp, current_stamp
from serving.score.rows import COLUMNS, Row

VERSION = 2
_KEY = "quarterturn score"
_OF_FILE = 2  # path and model, the columns of a row that a journal's line holds but once


class JournalError(RuntimeError):
    """An unfinished run's file that this run cannot go on from."""


@dataclass(frozen=True)
class ScoreRun:
    """What the rows of a run depend on besides the files themselves; ``models`` are names and digests."""

    paths: list[str]
    models: list[list[str]]
    alpha: float
    max_image_bytes: int
    max_image_pixels: int


class Journal:
    """The finished files of one run, in order. ``kept`` is how many of them an interrupted run had finished."""

    def __init__(self, stream: BinaryIO, run: ScoreRun, start: int) -> None:
        self._stream = stream
        self._models = [name for name, _ in run.models]
        self._start = start  # where the first finished file's line begins
        self.kept = 0

    def go_on(self, files: Iterator[str], batch: int = 1) -> Iterator[str]:
        """Take from ``files`` those finished already, in whole batches of so many, and return the others.

        The rows are kept up to the first file that is not where it was in the interrupted run, or has changed since;
        those after it are dropped. Whole batches, so that the others are scored in the company in which they would have
        been without the interruption: a network's last bits may depend on that.
        """
        self._stream.seek(self._start)
        end = position = self._start
        taken: list[str] = []  # since the last whole batch
        for line in self._stream:
            finished, file = self._finished(line), next(files, None)
            if file is not None:
                taken.append(file)
            if file is None or finished is None or finished[:2] != (file, current_stamp(file)):
                break
            position += len(line)
            if len(taken) == batch:
                end, self.kept = position, self.kept + batch
                taken.clear()
        else:
            following = next(files, None)
            if following is None:  # every file is finished: the last batch, too
                end, self.kept = position, self.kept + len(taken)
                taken.clear()
            else:
                taken.append(following)
        self._stream.truncate(end)
        return chain(taken, files)

    def append(self, file: ReadFile, rows: Sequence[Row]) -> None:
        """Add a finished file with its rows, one a model. Raises OSError."""
        cells = [row[_OF_FILE:] for row in rows]
        self._stream.write(_line({"path": file.path, "stamp": file.stamp, "rows": cells}))

    def flush(self) -> None:
        """Hand what was added to the system, so that it outlives this process. Raises OSError."""
        self._stream.flush()

    def rows(self) -> Iterator[list[Row]]:
        """Yield the rows of each finished file in turn."""
        self._stream.seek(self._start)
        for line in self._stream:
            finished = self._finished(line)
            assert finished is not None  # ``go_on`` cut off what is no finished file
            path, _, cells = finished
            yield [Row(path, model, *row) for model, row in zip(self._models, cells, strict=True)]

    def _finished(self, line: bytes) -> tuple[str, Stamp | None, list[Any]] | None:
        """Return path, stamp and rows of a line, None where it is damaged or unfinished."""
        if not line.endswith(b"\n"):
            return None
        try:
            content = json.loads(line)
            path, stamp, rows = content["path"], content["stamp"], content["rows"]
            if [len(row) for row in rows] != [len(COLUMNS) - _OF_FILE] * len(self._models):
                return None
            return path, None if stamp is None else tuple(stamp), rows
        except (ValueError, KeyError, TypeError):
            return None


def _line(content: dict[str, Any]) -> bytes:
    """Write JSON by orjson, in a tenth of json's time; json takes a path that is no UTF-8, which orjson does not."""
    try:
        return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return json.dumps(content).encode("ascii") + b"\n"


@contextmanager
def open_journal(path: Path, run: ScoreRun, *, restart: bool = False) -> Iterator[Journal]:
    """Open the journal at ``path``, made where there is none, for this process alone.

    Raises JournalError where another process has it open, and where it is of another run, or of no run, unless
    ``restart`` says to start afresh; OSError where it cannot be written.
    """
    if path.exists() and not path.is_file():
        raise JournalError(f"{printable(path)} is in the way: it is no regular file")
    with path.open("a+b") as stream:
        _lock(stream, path)
        stream.seek(0)
        header = stream.readline()
        wanted = json.dumps({_KEY: VERSION, **asdict(run)}).encode("ascii") + b"\n"
        if header != wanted:
            torn = header.startswith(wanted[: len(_KEY)]) and not header.endswith(b"\n")
            if header and not torn and not restart:
                raise JournalError(_refusal(path, header, run))
            stream.truncate(0)
            stream.write(wanted)
            stream.flush()
        elif restart:
            stream.truncate(len(wanted))
        yield Journal(stream, run, len(wanted))


def _refusal(path: Path, header: bytes, run: ScoreRun) -> str:
    try:
        found = json.loads(header)
        if found.pop(_KEY) != VERSION:
            raise ValueError
        interrupted = ScoreRun(**found)
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{printable(path)} is not of an unfinished run of this release; move it away, or give --restart"
    before, now = asdict(interrupted), asdict(run)
    changed = next(name for name in before if before[name] != now[name])
    return (
        f"{printable(path)} is of an unfinished run with {_shown(changed, before[changed])}, not "
        f"{_shown(changed, now[changed])}: repeat that command to go on, or give --restart to drop its rows"
    )


def _shown(name: str, value: Any) -> str:
    if name == "paths":
        return f"the files of {', '.join(map(printable, value))}"
    if name == "models":
        return " and ".join(f"{model} ({digest[:19]})" for model, digest in value)
    return f"{name} {value}"


def _lock(stream: BinaryIO, path: Path) -> None:
    """Lock the file for this process, where the system can; the lock ends with the process."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise JournalError(f"{printable(path)} is being written by another run") from None
    except OSError:  # a file system without locks
        return
