from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.images.fitting import Fitting
from serving.images.image_file import read_image
from tests.training.runs import write_images
from training.data.image_set import DataError, OnDisk, UnreadableError
from training.data.noise import gaussian
from training.data.ood import load_ood, wanted_count

FITTING = Fitting(size=32, shorter_side=32)


def test_one_out_for_five_in() -> None:
    assert wanted_count(10_000, 0.2) == 2000
    assert wanted_count(2, 0.2) == 1


def test_a_seeded_choice_of_class_folders(tmp_path: Path) -> None:
    write_images(tmp_path / "scenes" / "test" / "sea", 6, 100, seed=0)
    write_images(tmp_path / "scenes" / "test" / "wood", 6, 150, seed=1)
    drawn = load_ood(tmp_path, "scenes", FITTING, 5, seed=0)
    again = load_ood(tmp_path, "scenes", FITTING, 5, seed=0)
    other = load_ood(tmp_path, "scenes", FITTING, 5, seed=1)
    assert drawn is not None
    assert again is not None
    assert other is not None
    assert (len(drawn.images), drawn.available, drawn.source) == (5, 12, "data")
    pixels = drawn.images.pixels.read(0, 5)
    np.testing.assert_array_equal(pixels, again.images.pixels.read(0, 5))
    assert not np.array_equal(pixels, other.images.pixels.read(0, 5))
    assert len(np.unique(pixels.reshape(5, -1), axis=0)) == 5


def test_a_small_set_is_taken_whole(tmp_path: Path) -> None:
    write_images(tmp_path / "scenes" / "test" / "sea", 3, 100, seed=0)
    drawn = load_ood(tmp_path, "scenes", FITTING, 5)
    assert drawn is not None
    assert (len(drawn.images), drawn.available) == (3, 3)


def test_a_flat_folder(tmp_path: Path) -> None:
    write_images(tmp_path / "holiday", 6, 100, seed=0)
    (tmp_path / "holiday" / ".hidden").write_text("no image")
    drawn = load_ood(tmp_path, "holiday", FITTING, 4)
    assert drawn is not None
    assert (len(drawn.images), drawn.available) == (4, 6)
    assert drawn.images.pixels.read(0, 4).shape == (4, 32, 32, 3)


def test_large_images_of_a_flat_folder_stay_on_disk(tmp_path: Path) -> None:
    write_images(tmp_path / "holiday", 2, 100, seed=0)
    drawn = load_ood(tmp_path, "holiday", Fitting(size=224, shorter_side=256), 4)
    assert drawn is not None
    assert isinstance(drawn.images.pixels, OnDisk)
    assert drawn.images.pixels.read(0, 2).shape == (2, 224, 224, 3)


def test_an_array(tmp_path: Path) -> None:
    stored = gaussian(7, 32, 0)
    np.save(tmp_path / "random.npy", stored)
    drawn = load_ood(tmp_path, "random", FITTING, 7)
    assert drawn is not None
    np.testing.assert_array_equal(drawn.images.pixels.read(0, 7), stored)


def test_an_array_of_another_size_is_fitted(tmp_path: Path) -> None:
    np.save(tmp_path / "random.npy", gaussian(3, 48, 0))
    drawn = load_ood(tmp_path, "random", FITTING, 2)
    assert drawn is not None
    assert drawn.images.pixels.read(0, 2).shape == (2, 32, 32, 3)


def test_noise_needs_no_data_and_differs_by_name(tmp_path: Path) -> None:
    first, second = (load_ood(tmp_path, name, FITTING, 3) for name in ("gaussian", "rademacher"))
    assert first is not None
    assert second is not None
    assert (first.source, len(first.images), first.available) == ("noise", 3, 3)
    assert not np.array_equal(first.images.pixels.read(0, 3), second.images.pixels.read(0, 3))


def test_a_set_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert load_ood(tmp_path, "svhn", FITTING, 3) is None


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    write_images(tmp_path / "holiday", 1, 100, seed=0)
    (tmp_path / "holiday" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    with pytest.raises(DataError, match=r"broken\.png"):
        load_ood(tmp_path, "holiday", FITTING, 4)


def test_others_are_drawn_for_unreadable_images_when_asked(tmp_path: Path) -> None:
    write_images(tmp_path / "holiday", 6, 100, seed=0)
    before = load_ood(tmp_path, "holiday", FITTING, 4)
    assert before is not None
    files = sorted((tmp_path / "holiday").iterdir())
    drawn = [
        index for index in range(6) if (before.images.pixels.read(0, 4) == read(files[index])).all((1, 2, 3)).any()
    ]
    files[drawn[0]].write_bytes(b"junk")
    found = load_ood(tmp_path, "holiday", FITTING, 4, skip_unreadable=True)
    assert found is not None
    assert (len(found.images), found.available) == (4, 5)
    assert [line.split(": ")[0] for line in found.images.skipped] == [str(files[drawn[0]])]
    kept = [read(files[index]) for index in drawn[1:]]
    assert all((found.images.pixels.read(0, 4) == image).all((1, 2, 3)).any() for image in kept)
    for path in files:
        path.write_bytes(b"junk")
    with pytest.raises(DataError, match="holiday has no image that can be read"):
        load_ood(tmp_path, "holiday", FITTING, 4, skip_unreadable=True)


@pytest.mark.parametrize("size", [32, 224])
def test_unreadable_images_of_class_folders_and_large_ones_are_left_out_when_asked(tmp_path: Path, size: int) -> None:
    write_images(tmp_path / "scenes" / "test" / "sea", 3, 100, seed=0)
    write_images(tmp_path / "holiday", 3, 100, seed=0)
    for folder in ("scenes/test/sea", "holiday"):
        (tmp_path / folder / "001.png").write_bytes(b"junk")
    for name in ("scenes", "holiday"):
        fitting = Fitting(size=size, shorter_side=size)
        with pytest.raises(UnreadableError, match=r"001\.png: "):
            load_ood(tmp_path, name, fitting, 9)
        found = load_ood(tmp_path, name, fitting, 9, skip_unreadable=True)
        assert found is not None
        assert (len(found.images), found.available, len(found.images.skipped)) == (2, 2, 1)
        assert found.images.pixels.read(0, 2).shape == (2, size, size, 3)


def read(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return read_image(path.read_bytes(), FITTING)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    with pytest.raises(DataError, match="is empty"):
        load_ood(tmp_path, "holiday", FITTING, 4)


def test_an_array_of_other_things_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "random.npy", np.zeros((3, 32, 32, 3)))
    with pytest.raises(DataError, match=r"float64 \[3, 32, 32, 3\]"):
        load_ood(tmp_path, "random", FITTING, 4)


def test_an_array_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "random.npy", np.asarray([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"random\.npy is no \.npy file of an array"):
        load_ood(tmp_path, "random", FITTING, 4)
