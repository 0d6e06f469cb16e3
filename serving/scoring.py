"""Scoring: a folder of images through the graphs without a server, as rows of a CSV file.

One row a file and model, in the order of the files; a file that cannot be scored keeps its rows, with the reason.
"""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving.answers import classify_results, score_parts
from serving.errors import ApiError
from serving.graph import Graph
from serving.inference import Fitted, fit_upload, run_graph
from serving.manifest import Fitting
from serving.settings import Settings
from serving.uploads import Upload

COLUMNS = ("path", "model", "label", "probability", "score", "p_value", "is_anomaly", "error")
FILES_AT_A_TIME = 64


class ScoringError(ValueError):
    """Paths that cannot be scored at all, or an output that cannot be written."""


@dataclass(frozen=True)
class Row:
    """One file and model. ``label`` and ``probability`` are a classifier's; ``error`` is empty where all went well."""

    path: str
    model: str
    label: str = ""
    probability: str = ""
    score: str = ""
    p_value: str = ""
    is_anomaly: str = ""
    error: str = ""

    def cells(self) -> tuple[str, ...]:
        """Return the row in the order of COLUMNS."""
        return tuple(getattr(self, column) for column in COLUMNS)


def find_files(paths: Sequence[Path], *, exclude: Path | None = None) -> list[Path]:
    """Return the files named and all files below the folders named, each once, sorted within a folder.

    Hidden files and folders below a named folder are left out, and so is ``exclude`` with its ``.part``. Raises
    ScoringError for a path that is not there, and where nothing is found.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found.update(dict.fromkeys(_files_below(path)))
        elif path.exists():
            found[path] = None
        else:
            raise ScoringError(f"{path}: no such file or folder")
    excluded = {path.resolve() for path in ((exclude, _part(exclude)) if exclude else ())}
    files = [path for path in found if path.resolve() not in excluded]
    if not files:
        raise ScoringError(f"no files in {', '.join(map(str, paths))}")
    return files


def score_files(
    files: Sequence[Path], graphs: Sequence[Graph], settings: Settings, alpha: float, threads: int
) -> Iterator[list[Row]]:
    """Yield the rows of each file in turn: one a graph, ``is_anomaly`` where its p-value is <= alpha.

    The settings' limits on bytes and pixels of an image hold. Files are read and decoded by ``threads`` threads.
    """
    fittings = [graph.manifest.fitting for graph in graphs]
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(files), FILES_AT_A_TIME):
            batch = files[start : start + FILES_AT_A_TIME]
            fitted = list(pool.map(lambda path: _read(path, fittings, settings), batch))
            good = [outcome for outcome in fitted if not isinstance(outcome, ApiError)]
            scored = iter(_score(good, graphs, alpha))
            for path, outcome in zip(batch, fitted, strict=True):
                if isinstance(outcome, ApiError):
                    yield [Row(str(path), graph.name, error=outcome.message) for graph in graphs]
                else:
                    yield [
                        Row(str(path), graph.name, *cells) for graph, cells in zip(graphs, next(scored), strict=True)
                    ]


@contextmanager
def csv_rows(out: Path) -> Iterator[Callable[[Iterable[Row]], None]]:
    """Open ``out`` for rows; yields the function that appends some.

    They go to ``out`` + ``.part``, which takes its place when the block ends without error: an interrupted run leaves
    an earlier ``out`` as it was, and its own rows in the ``.part`` file. Raises ScoringError where that file cannot be
    written.
    """
    part = _part(out)
    try:
        with part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
            writer = csv.writer(stream)
            writer.writerow(COLUMNS)
            yield lambda rows: writer.writerows(row.cells() for row in rows)
        part.replace(out)
    except OSError as error:
        raise ScoringError(f"cannot write {out}: {error.strerror or error}") from error


def _part(out: Path) -> Path:
    return out.with_name(out.name + ".part")


def _files_below(folder: Path) -> Iterator[Path]:
    for directory, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(directory) / name


def _read(path: Path, fittings: Sequence[Fitting], settings: Settings) -> Fitted | ApiError:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return ApiError(415, "not_an_image", "not a regular file")
        size = status.st_size
        if size > settings.max_image_bytes:
            reason = f"the file has {size} bytes; an image may have {settings.max_image_bytes}"
            return ApiError(413, "image_too_large", reason)
        data = path.read_bytes()
    except OSError as error:
        return ApiError(422, "unreadable_file", f"cannot be read: {error.strerror or error}")
    return fit_upload(Upload(data, path.name), 0, fittings, settings.max_image_pixels)


def _score(images: Sequence[Fitted], graphs: Sequence[Graph], alpha: float) -> list[list[tuple[str, ...]]]:
    """Return for each image, for each graph, the cells from label to is_anomaly."""
    if not images:
        return []
    columns = [_graph_cells(images, graph, alpha) for graph in graphs]
    return [list(cells) for cells in zip(*columns, strict=True)]


def _graph_cells(images: Sequence[Fitted], graph: Graph, alpha: float) -> list[tuple[str, ...]]:
    outputs = run_graph(graph, images)
    parts = score_parts(graph, outputs, alpha)
    if graph.manifest.kind == "classifier":
        labels = [(best["label"], _digits(best["probability"])) for best in classify_results(graph, outputs, top_k=1)]
    else:
        labels = [("", "")] * len(parts)
    return [
        (*label, _digits(part["score"]), _digits(part["p_value"]), "true" if part["is_anomaly"] else "false")
        for label, part in zip(labels, parts, strict=True)
    ]


def _digits(value: float | None) -> str:
    """Nine digits: enough to give back a float32 exactly."""
    return "" if value is None else f"{value:.9g}"
