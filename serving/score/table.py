"""Score table: the whole run of ``quarterturn score``, from paths to a file of rows, there only once it is whole.

Until then ``OUT.part`` beside it holds the finished files (``serving.score.journal``), from which the same run goes on,
and an earlier ``OUT`` stays as it was. The rows are written while the graphs run, to a hidden file that is renamed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from serving.graphs.calibration import model_threshold
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
    """How many files there were, gave no image, raised the alarm; how many had rows before.

    ``anomalies`` are counted as a server's verdict is: a p-value <= ``threshold``, which is alpha / number of models.
    ``kept`` counts files whose rows an interrupted run had left, ``linked_folders`` links to folders passed by.
    """

    threshold: float
    files: int = 0
    bad: int = 0
    anomalies: int = 0
    kept: int = 0
    linked_folders: int = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Count one file by its rows."""
        self.files += 1
        self.bad += rows[0].error is not None  # of a file all rows have it, or none
        self.anomalies += any(row.p_value is not None and row.p_value <= self.threshold for row in rows)


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
            summary = Summary(model_threshold(alpha, len(scorer.graphs)), linked_folders=files.linked_folders)
            rows = _rows(journal, files, scorer, alpha, summary, lambda: progress(summary.files, count))
            try:
                with closing(rows):
                    write(whole, rows)
                with whole.open("rb") as stream:
                    os.fsync(stream.fileno())
                whole.replace(out)
            except BaseException:  # an interrupt, too: the journal has the rows
                whole.unlink(missing_ok=True)
                raise
        part.unlink(missing_ok=True)
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


def _rows(
    journal: Journal, files: ImageFiles, scorer: Scorer, alpha: float, summary: Summary, progress: Callable[[], None]
) -> Generator[Row]:
    """Yield the rows that an interrupted run left, then those of the other files as they are scored, and count them."""
    remaining = journal.go_on(iter(files), scorer.batch)
    for rows in journal.rows():
        summary.add(rows)
        yield from rows
    summary.kept = summary.files
    progress()
    for batch in scorer.score(remaining):
        finished = list(batch_rows(batch, scorer.graphs, alpha))
        for file, rows in finished:
            journal.append(file, rows)
        journal.flush()
        for _, rows in finished:
            summary.add(rows)
            yield from rows
        progress()
