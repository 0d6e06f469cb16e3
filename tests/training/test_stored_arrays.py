"""Arrays of a data root: what is no .npy file is named and costs no traceback."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serving.images.fitting import Fitting
from training.corruptions.layout import open_corrupted_images
from training.data.image_set import DataError
from training.data.ood import load_ood
from training.data.stored_arrays import open_array

NONE = r"is no \.npy file of an array: "
FITTING = Fitting(size=32, shorter_side=32)
IMAGES = np.zeros((3, 32, 32, 3), np.uint8)


def several(path: Path) -> str:
    np.savez(path.with_suffix(".npz"), a=IMAGES, b=IMAGES)
    shutil.move(path.with_suffix(".npz"), path)
    return NONE


def zip_of_other_files(path: Path) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "none")
    return NONE


def broken_zip(path: Path) -> str:
    path.write_bytes(b"PK\x03\x04" + b"\0" * 100)
    return NONE


def empty(path: Path) -> str:
    path.touch()
    return NONE


def text(path: Path) -> str:
    path.write_text("no array")
    return NONE


def cut_short(path: Path) -> str:
    stream = io.BytesIO()
    np.save(stream, IMAGES)
    path.write_bytes(stream.getvalue()[:500])
    return NONE


def objects(path: Path) -> str:
    np.save(path, np.asarray([{"a": 1}], dtype=object), allow_pickle=True)
    return NONE


SPOILT = [several, zip_of_other_files, broken_zip, empty, text, cut_short, objects]


@pytest.mark.parametrize("spoil", SPOILT)
def test_what_is_no_array_is_named(tmp_path: Path, spoil: Callable[[Path], str]) -> None:
    said = f"other.npy {spoil(tmp_path / 'other.npy')}"
    with pytest.raises(DataError, match=said):
        open_array(tmp_path / "other.npy")
    with pytest.raises(DataError, match=said):
        load_ood(tmp_path, "other", FITTING, 2)


@pytest.mark.parametrize("spoil", SPOILT)
def test_corrupted_images_that_are_no_array_are_named(tmp_path: Path, spoil: Callable[[Path], str]) -> None:
    np.save(tmp_path / "labels.npy", np.tile(np.arange(3), 5))
    said = f"fog.npy {spoil(tmp_path / 'fog.npy')}"
    with pytest.raises(DataError, match=said):
        open_corrupted_images(tmp_path, 32, 3)


def test_a_file_that_is_missing_or_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"other\.npy is missing"):
        open_array(tmp_path / "other.npy")
    (tmp_path / "other.npy").mkdir()
    with pytest.raises(DataError, match=r"other\.npy cannot be read: Is a directory"):
        open_array(tmp_path / "other.npy")


@pytest.mark.parametrize("shape", [(0, 32, 32, 3), (3, 0, 0, 3), (3, 0, 5, 3)])
def test_images_without_a_pixel_are_no_images(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "blank.npy", np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match=r"blank\.npy holds uint8 .*, not uint8 \[images, height, width, 3\]"):
        load_ood(tmp_path, "blank", FITTING, 2)


def test_an_array_is_opened_and_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "some.npy", IMAGES)
    stored = open_array(tmp_path / "some.npy")
    assert isinstance(stored, np.memmap)
    np.testing.assert_array_equal(stored, IMAGES)
