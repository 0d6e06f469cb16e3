"""Score formats: rows of scores as CSV, JSON lines or Parquet, chosen by the ending of the file's name.

Every file is valid UTF-8: bytes of a file name that are not come out as ``\\xff``. What a row does not have is empty in
CSV, null in the others. CSV has nine digits, enough to give back a float32 exactly; Parquet has float32 itself.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from serving.score.rows import COLUMNS, Row

HOW_TO_GET_PARQUET = "pip install pyarrow (in the checkout: pip install -e '.[parquet]')"
ROWS_PER_GROUP = 16_384
# What a spreadsheet takes for the start of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class FormatError(ValueError):
    """A file name whose ending says no format that can be written."""


def writer_for(path: Path) -> Callable[[Path, Iterable[Row]], None]:
    """Return the function that writes rows to a file of a name like ``path``'s; it raises OSError.

    Raises FormatError for an ending that is none of .csv, .jsonl and .parquet, and where the package that Parquet
    needs is missing.
    """
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        *first, last = _WRITERS
        raise FormatError(f"{path.name!r} must end in {', '.join(first)} or {last}, which says how rows are written")
    if writer is write_parquet and find_spec("pyarrow") is None:
        raise FormatError(f"writing Parquet needs the package pyarrow: {HOW_TO_GET_PARQUET}")
    return writer


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """Write a header and a line a row. A path that a spreadsheet would run as a formula gets ``./`` in front."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows(map(_cells, rows))


def write_json_lines(path: Path, rows: Iterable[Row]) -> None:
    """Write an object a row."""
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for row in rows:
            stream.write(json.dumps(dict(zip(COLUMNS, _values(row), strict=True)), ensure_ascii=False) + "\n")


def write_parquet(path: Path, rows: Iterable[Row]) -> None:
    """Write a table: strings, ``probability`` and ``score`` as float, ``p_value`` as double, ``is_anomaly`` as bool."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    types = {
        "probability": pyarrow.float32(),
        "score": pyarrow.float32(),
        "p_value": pyarrow.float64(),
        "is_anomaly": pyarrow.bool_(),
    }
    schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in COLUMNS])
    remaining = iter(rows)
    with ParquetWriter(path, schema) as writer:
        while group := [_values(row) for row in islice(remaining, ROWS_PER_GROUP)]:
            columns = zip(zip(*group, strict=True), schema.types, strict=True)
            arrays = [pyarrow.array(column, kind) for column, kind in columns]
            writer.write_batch(pyarrow.record_batch(arrays, schema=schema))


_WRITERS: dict[str, Callable[[Path, Iterable[Row]], None]] = {
    ".csv": write_csv,
    ".jsonl": write_json_lines,
    ".parquet": write_parquet,
}


def _values(row: Row) -> tuple[Any, ...]:
    path, *others = row
    return (_valid(path), *others)


def _cells(row: Row) -> tuple[str | None, ...]:
    """Return a row as texts; None, which the writer takes for an empty one, where it has no value."""
    path, model, label, probability, score, p_value, is_anomaly, error = row
    path = _valid(path)
    if path.startswith(_FORMULA):
        path = f"./{path}"
    return path, model, label, _digits(probability), _digits(score), _digits(p_value), _VERDICTS[is_anomaly], error


_VERDICTS = {True: "true", False: "false", None: None}


def _digits(value: float | None) -> str | None:
    return None if value is None else f"{value:.9g}"


def _valid(path: str) -> str:
    if path.isascii():
        return path
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
