from __future__ import annotations

import csv
import importlib.machinery
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from serving.score import formats
from serving.score.formats import FormatError, writer_for
from serving.score.rows import COLUMNS, Row

SCORED = Row("a.png", "colours", "cat", float(np.float32(0.1)), float(np.float32(-10.1)), 1 / 3, False)
ONE_CLASS = Row("a.png", "views", None, None, float(np.float32(1 / 3)), 1.0, True)
BAD = Row("notes.txt", "colours", error='no image, says "a"\nb')
ROWS = [SCORED, ONE_CLASS, BAD]

HOSTILE = [
    'a "b", c\n.png',
    "new\r\nline.png",
    "=HYPERLINK(1)",
    "@x",
    "+1",
    "-1.png",
    "\t=1",
    "été \u202e.png",
    os.fsdecode(b"caf\xe9 \xff.png"),
    r"back\slash.png",
    "a" * 255,
]  # fmt: skip


def write(path: Path, rows: Iterable[Row]) -> Path:
    writer_for(path)(path, rows)
    return path


def read_csv(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    assert tuple(header) == COLUMNS
    return rows


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def test_csv(tmp_path: Path) -> None:
    scored, one_class, bad = read_csv(write(tmp_path / "x.csv", ROWS))
    assert scored == ["a.png", "colours", "cat", "0.100000001", "-10.1000004", "0.333333333", "false", ""]
    assert np.float32(scored[4]) == np.float32(-10.1)
    assert one_class == ["a.png", "views", "", "", "0.333333343", "1", "true", ""]
    assert bad == ["notes.txt", "colours", "", "", "", "", "", BAD.error]


def test_json_lines_have_types(tmp_path: Path) -> None:
    written = read_json_lines(write(tmp_path / "x.jsonl", ROWS))
    assert [tuple(row) for row in written] == [COLUMNS] * 3
    assert [Row(**row) for row in written] == ROWS


def test_parquet_has_types_and_gives_back_what_was_written(tmp_path: Path) -> None:
    table = parquet.read_table(write(tmp_path / "x.parquet", ROWS))
    text, single, double = pyarrow.string(), pyarrow.float32(), pyarrow.float64()
    types = dict(zip(COLUMNS, (text, text, text, single, single, double, pyarrow.bool_(), text), strict=True))
    assert {column.name: column.type for column in table.schema} == types
    assert [Row(**row) for row in table.to_pylist()] == ROWS


def test_parquet_is_written_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "ROWS_PER_GROUP", 4)
    rows = [SCORED._replace(path=f"{index}.png") for index in range(10)]
    path = write(tmp_path / "x.parquet", iter(rows))
    assert parquet.ParquetFile(path).num_row_groups == 3
    assert [Row(**row) for row in parquet.read_table(path).to_pylist()] == rows


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_no_rows_are_a_file_without_rows(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"x{ending}", [])
    read = {".csv": read_csv, ".jsonl": read_json_lines, ".parquet": lambda path: parquet.read_table(path).to_pylist()}
    assert read[ending](path) == []


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_names_come_back_from_every_format(tmp_path: Path, name: str) -> None:
    rows = [Row(name, "colours", error="x"), SCORED]
    expected = r"caf\xe9 \xff.png" if "caf" in name else name
    [in_csv, after] = read_csv(write(tmp_path / "x.csv", rows))
    assert in_csv[0] in (expected, f"./{expected}")
    assert not in_csv[0].startswith(("=", "+", "-", "@", "\t"))
    assert after[0] == "a.png"
    assert [row["path"] for row in read_json_lines(write(tmp_path / "x.jsonl", rows))] == [expected, "a.png"]
    assert parquet.read_table(write(tmp_path / "x.parquet", rows))["path"].to_pylist() == [expected, "a.png"]


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_any_text_comes_back_from_csv_and_json_lines(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    rows = [Row(name, "colours", error=name) for name in names]
    expected = [name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for name in names]
    assert [row["path"] for row in read_json_lines(write(folder / "x.jsonl", rows))] == expected
    found = [row[0] for row in read_csv(write(folder / "x.csv", rows))]
    assert all(one in (other, f"./{other}") for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", ["scores.txt", "scores", "scores.csv.gz", ".csv"])
def test_another_ending_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(FormatError, match=r"must end in \.csv, \.jsonl or \.parquet"):
        writer_for(Path(name))


def test_capitals_make_no_difference(tmp_path: Path) -> None:
    assert writer_for(Path("SCORES.CSV")) is writer_for(Path("scores.csv"))


def test_parquet_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pyarrow")
    find = importlib.machinery.PathFinder.find_spec

    def without_pyarrow(name: str, *arguments: Any) -> Any:
        return None if name == "pyarrow" else find(name, *arguments)

    monkeypatch.setattr(importlib.machinery.PathFinder, "find_spec", without_pyarrow)
    with pytest.raises(FormatError, match=r"needs the package pyarrow: pip install .*\[parquet\]"):
        writer_for(Path("scores.parquet"))
    assert writer_for(Path("scores.csv"))
