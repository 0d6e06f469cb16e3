"""Score table: the whole run of ``quarterturn score``, from paths to a file of rows, there only once it is whole.

Until then ``OUT.part`` beside it holds the finished files (``serving.score.journal``), and an earlier ``OUT`` stays as
it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.printable import printable
from serving.score.formats import writer_for
from serving.score.image_files import ImageFiles
from serving.score.journal import Journal, ScoreRun, open_journal
from serving.score.pipeline import Scorer
from serving.score.rows import Row, batch_rows

# Called with the number of files that are finished, and of all files.
Progress = Callable[[int, int], None]


class OutputError(RuntimeError):
    """A file of rows that cannot be written."""


@dataclass
class Summary:
    """How many files there were, gave no image, were flagged by a model or more; how many had rows before.

    ``kept`` counts those whose rows an interrupted run had left.
    """

    files: int = 0
    bad: int = 0
    flagged: int = 0
    kept: int = 0


def score_table(
    paths: Sequence[Path], out: Path, scorer: Scorer, alpha: float, *, restart: bool = False, progress: Progress
) -> Summary:
    """Score the files of ``paths`` into ``out``, whose ending says how rows are written; return what came of them.

    Goes on from the ``.part`` of an interrupted run of the same paths, models, limits and ``alpha``; of another run it
    is refused, and with ``restart`` dropped. Raises FormatError, FilesError, JournalError, OutputError, GraphError.
    """
    write = writer_for(out)
    part, whole = out.with_name(f"{out.name}.part"), out.with_name(f".{out.name}.tmp")
    files = ImageFiles(paths, exclude=(out, part))
    count = files.count()
    try:
        if out.is_dir():
            raise IsADirectoryError("is a folder")
        with open_journal(part, _run(files, scorer, alpha), restart=restart) as journal:
            _score_into(journal, files, scorer, alpha, lambda done: progress(done, count))
            summary = Summary(kept=journal.kept)
            write(whole, _counted(journal, summary))
        with whole.open("rb") as stream:
            os.fsync(stream.fileno())
        whole.replace(out)
        part.unlink()
    except OSError as error:
        raise OutputError(f"cannot write {printable(out)}: {error.strerror or error}") from error
    return summary


def _run(files: ImageFiles, scorer: Scorer, alpha: float) -> ScoreRun:
    return ScoreRun(
        paths=[str(path) for path in files.paths],
        models=[[graph.name, graph.digest] for graph in scorer.graphs],
        alpha=alpha,
        max_image_bytes=scorer.settings.max_image_bytes,
        max_image_pixels=scorer.settings.max_image_pixels,
    )


def _score_into(
    journal: Journal, files: ImageFiles, scorer: Scorer, alpha: float, progress: Callable[[int], None]
) -> None:
    remaining = journal.go_on(iter(files), scorer.batch)
    done = journal.kept
    progress(done)
    for batch in scorer.score(remaining):
        for file, rows in batch_rows(batch, scorer.graphs, alpha):
            journal.append(file, rows)
        journal.flush()
        done += len(batch.files)
        progress(done)


def _counted(journal: Journal, summary: Summary) -> Iterator[Row]:
    for rows in journal.rows():
        summary.files += 1
        summary.bad += any(row.error is not None for row in rows)
        summary.flagged += any(row.is_anomaly is True for row in rows)
        yield from rows
