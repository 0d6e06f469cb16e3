from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving.collection import Collection, load_collection
from serving.scoring import COLUMNS, FILES_AT_A_TIME, Row, ScoringError, csv_rows, find_files, score_files
from serving.settings import Settings
from tests.graphs import solid, write_graph


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("models")
    write_graph(folder, "colours")
    write_graph(folder, "views", formula="transformation")
    return Settings(models=folder, device="cpu", max_image_bytes=100_000, max_image_pixels=10_000)


@pytest.fixture(scope="module")
def collection(settings: Settings) -> Collection:
    return load_collection(settings.models, settings)


def save(path: Path, value: int, size: int = 32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(solid(value, size)).save(path)
    return path


def rows_of(files: list[Path], collection: Collection, settings: Settings, alpha: float = 0.05) -> list[list[Row]]:
    return list(score_files(files, collection.default.graphs, settings, alpha, threads=2))


def test_a_row_for_each_file_and_model(tmp_path: Path, collection: Collection, settings: Settings) -> None:
    files = [save(tmp_path / "black.png", 0), save(tmp_path / "white.jpg", 255)]
    (black, black_views), (white, white_views) = rows_of(files, collection, settings)
    classifier, one_class = collection.default.graphs
    probabilities = classifier.run(solid(0)[None])["probabilities"][0]
    assert (black.path, black.model, black.label) == (str(files[0]), "colours", "cat")
    assert np.float32(black.probability) == probabilities.max()
    assert np.float32(white.score) == classifier.run(solid(255)[None])["anomaly_score"][0]
    assert (white.p_value, white.is_anomaly, black.is_anomaly) == ("0.01", "true", "false")
    assert (white_views.model, white_views.label, white_views.probability) == ("views", "", "")
    assert np.float32(black_views.score) == one_class.run(solid(0)[None])["anomaly_score"][0]
    assert not any(row.error for row in (black, black_views, white, white_views))


def test_a_bad_file_keeps_its_rows_with_the_reason(tmp_path: Path, collection: Collection, settings: Settings) -> None:
    good = save(tmp_path / "good.png", 0)
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    cut = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)).save(cut)
    cut.write_bytes(cut.read_bytes()[:4000])
    large = save(tmp_path / "large.png", 0, size=102)
    heavy = tmp_path / "heavy.png"
    heavy.write_bytes(b"x" * 100_001)
    gone = tmp_path / "gone.png"
    gone.symlink_to(tmp_path / "nowhere")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    bad = [text, cut, large, heavy, gone, pipe]
    first, *reported, last = rows_of([good, *bad, good], collection, settings)
    assert first == last
    for path, rows in zip(bad, reported, strict=True):
        assert [row.model for row in rows] == ["colours", "views"]
        for row in rows:
            assert row == Row(str(path), row.model, error=row.error)
            assert row.error


def test_more_files_than_are_read_at_a_time_come_out_in_order(
    tmp_path: Path, collection: Collection, settings: Settings
) -> None:
    files = [save(tmp_path / f"{index:03}.png", index) for index in range(FILES_AT_A_TIME + 3)]
    rows = rows_of(files, collection, settings)
    assert [of_file[0].path for of_file in rows] == [str(path) for path in files]
    scores = [float(of_file[1].score) for of_file in rows]
    assert scores == sorted(scores)


def test_alpha_decides_what_is_an_anomaly(tmp_path: Path, collection: Collection, settings: Settings) -> None:
    files = [save(tmp_path / "grey.png", 150)]
    p_value = float(rows_of(files, collection, settings)[0][0].p_value)
    assert rows_of(files, collection, settings, alpha=p_value + 1e-6)[0][0].is_anomaly == "true"
    assert rows_of(files, collection, settings, alpha=p_value - 1e-6)[0][0].is_anomaly == "false"


def test_files_are_found_below_folders_sorted_and_once(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.png", "a.png", ".hidden/x.png", "b/.x.png", "c/scores.csv"):
        save(tmp_path / name, 0) if name.endswith("png") else (tmp_path / "c").mkdir()
    for name in ("scores.csv", "scores.csv.part"):
        (tmp_path / "c" / name).write_text("old")
    expected = [tmp_path / name for name in ("a.png", "b/1.png", "b/2.png")]
    assert find_files([tmp_path], exclude=tmp_path / "c/../c/scores.csv") == expected
    assert find_files([tmp_path / "b/2.png", tmp_path / "b"]) == [expected[2], expected[1]]
    assert find_files([tmp_path / "b/.x.png"]) == [tmp_path / "b/.x.png"]


def test_a_path_that_is_not_there_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match=r"nowhere: no such file or folder"):
        find_files([tmp_path / "nowhere"])
    with pytest.raises(ScoringError, match="no files in"):
        find_files([tmp_path])


def test_the_table_is_there_only_once_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    out.write_text("of an earlier run")

    def rows_until_interrupted() -> Iterator[Row]:
        yield Row("a.png", "colours")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), csv_rows(out) as append:
        append(rows_until_interrupted())
    assert out.read_text() == "of an earlier run"
    awkward = 'a "b", c\n.png'
    with csv_rows(out) as append:
        append([Row(awkward, "colours", error="x")])
    with out.open(newline="") as stream:
        header, row = csv.reader(stream)
    assert (
        tuple(header) == COLUMNS == ("path", "model", "label", "probability", "score", "p_value", "is_anomaly", "error")
    )
    assert row == [awkward, "colours", "", "", "", "", "", "x"]
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


def test_a_table_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    with (
        pytest.raises(ScoringError, match=r"cannot write .*scores\.csv: No such file"),
        csv_rows(tmp_path / "no/scores.csv"),
    ):
        raise AssertionError("unreachable")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "scores.csv.part").symlink_to("/dev/full")
    with pytest.raises(ScoringError, match="No space left"), csv_rows(tmp_path / "scores.csv") as append:
        append([Row("a.png", "colours")])
