"""Reading data sets from a data root: class folders of any images, and what is said of bad ones."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving.images.fitting import Fitting
from serving.images.image_file import read_image
from tests.training.patterns import CLASSES, pattern, write_class_folders
from tests.training.torchvision_files import write_cifar10, write_svhn
from training.data.image_set import DataError, InMemory, OnDisk
from training.data.sources import data_sets, load_images

SMALL, LARGE = Fitting(size=32, shorter_side=32), Fitting(size=224, shorter_side=256)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_class_folders(tmp_path / "photos" / "train", per_class=4)
    write_class_folders(tmp_path / "photos" / "test", per_class=2, first=1000)
    return tmp_path


def encoded(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], kind: str, **options: object) -> bytes:
    stream = BytesIO()
    Image.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


def test_class_folders_come_in_order_of_class_and_name(root: Path) -> None:
    images = load_images(root, "photos", "train", SMALL)
    assert images.classes == CLASSES
    assert images.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert isinstance(images.pixels, InMemory)
    for row in range(12):
        np.testing.assert_array_equal(images.pixels.array[row], pattern(row // 4, row % 4))


def test_large_images_stay_on_disk(large_data_root: Path) -> None:
    images = load_images(large_data_root, "photos", "train", LARGE)
    assert isinstance(images.pixels, OnDisk)
    assert len(images) == 12
    batches = list(images.batches(5))
    assert [len(batch) for batch in batches] == [5, 5, 2]
    path = large_data_root / "photos/train/arrow/000.jpg"
    np.testing.assert_array_equal(batches[0][0], read_image(path.read_bytes(), LARGE))


def test_exif_orientation_is_applied(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned a quarter clockwise
    lying = np.rot90(pattern(0, 7), 1)
    (root / "photos/train/arrow/000.png").write_bytes(encoded(np.ascontiguousarray(lying), "png", exif=exif))
    images = load_images(root, "photos", "train", SMALL)
    assert isinstance(images.pixels, InMemory)
    np.testing.assert_array_equal(images.pixels.array[0], pattern(0, 7))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1", "I;16"])
def test_every_kind_of_pixel_becomes_rgb(root: Path, mode: str) -> None:
    image = Image.fromarray(pattern(0, 0))
    image = Image.fromarray(np.full((32, 32), 40000, np.uint16)) if mode == "I;16" else image.convert(mode)
    image.save(root / "photos/train/arrow/000.tiff")
    images = load_images(root, "photos", "train", SMALL)
    assert isinstance(images.pixels, InMemory)
    assert images.pixels.array.shape == (13, 32, 32, 3)
    assert images.pixels.array[1].std() > 0 or mode == "I;16"


def test_images_of_other_sizes_are_fitted(root: Path) -> None:
    path = root / "photos/train/arrow/000.png"
    path.write_bytes(encoded(pattern(0, 0, 100)[:, :70], "png"))
    images = load_images(root, "photos", "train", SMALL)
    assert isinstance(images.pixels, InMemory)
    np.testing.assert_array_equal(images.pixels.array[0], read_image(path.read_bytes(), SMALL))


def test_the_digest_is_of_content_classes_and_labels_alone(root: Path, tmp_path: Path) -> None:
    def digest() -> str:
        return load_images(root, "photos", "train", SMALL).digest

    before = digest()
    assert before.startswith("sha256:")
    (root / "photos/train/arrow/000.png").rename(root / "photos/train/arrow/000-renamed.png")
    assert digest() == before
    (root / "photos/train/arrow").rename(root / "photos/train/arrows")
    assert digest() != before
    (root / "photos/train/arrows").rename(root / "photos/train/arrow")
    Image.fromarray(pattern(0, 99)).save(root / "photos/train/arrow/003.png")
    assert digest() != before
    shutil.copy(root / "photos/train/corner/000.png", root / "photos/train/ramp/003.png")
    assert load_images(root, "photos", "train", SMALL, limit_per_class=2).digest == digest(), "of the whole split"


def test_a_class_folder_may_be_called_any_bytes_and_the_digest_of_others_is_what_it_was(root: Path) -> None:
    content = hashlib.sha256(b"arrow\ncorner\nramp")
    for label, name in enumerate(("arrow", "corner", "ramp")):
        for path in sorted((root / "photos/train" / name).iterdir()):
            content.update(np.int64(label).tobytes() + hashlib.sha256(path.read_bytes()).digest())
    assert load_images(root, "photos", "train", SMALL).digest == f"sha256:{content.hexdigest()}"
    (root / "photos/train/ramp").rename(root / "photos/train" / os.fsdecode(b"ramp\xff"))
    first = load_images(root, "photos", "train", SMALL).digest
    (root / "photos/train" / os.fsdecode(b"ramp\xff")).rename(root / "photos/train" / os.fsdecode(b"ramp\xfe"))
    assert load_images(root, "photos", "train", SMALL).digest != first


def test_hidden_files_and_folders_inside_a_class_are_passed_over(root: Path) -> None:
    (root / "photos/train/.cache").mkdir()
    (root / "photos/train/arrow/.DS_Store").write_bytes(b"x")
    (root / "photos/train/arrow/more").mkdir()
    assert len(load_images(root, "photos", "train", SMALL)) == 12


def test_a_limit_takes_as_many_of_each_class_and_always_the_same(root: Path) -> None:
    images = load_images(root, "photos", "train", SMALL, limit_per_class=2)
    assert images.labels.tolist() == [0, 0, 1, 1, 2, 2]
    again = load_images(root, "photos", "train", SMALL, limit_per_class=2)
    assert isinstance(images.pixels, InMemory)
    assert isinstance(again.pixels, InMemory)
    np.testing.assert_array_equal(images.pixels.array, again.pixels.array)
    assert len(load_images(root, "photos", "train", SMALL, limit_per_class=100)) == 12


def test_a_label_means_the_same_in_both_splits(root: Path) -> None:
    shutil.rmtree(root / "photos/test/corner")
    test = load_images(root, "photos", "test", SMALL)
    assert test.classes == CLASSES
    assert test.labels.tolist() == [0, 0, 2, 2]


def test_a_set_without_a_training_split_has_its_own_classes(root: Path) -> None:
    shutil.rmtree(root / "photos/train")
    shutil.rmtree(root / "photos/test/arrow")
    assert load_images(root, "photos", "test", SMALL).classes == CLASSES[1:]


def test_torchvisions_layouts_are_found_and_fitted(tmp_path: Path) -> None:
    pixels = np.stack([pattern(0, index) for index in range(5)])
    write_cifar10(tmp_path / "cifar10", pixels, [1, 2, 3, 4, 5], pixels[:2])
    write_svhn(tmp_path / "svhn", "test", pixels, [0, 1, 2, 3, 4])
    train = load_images(tmp_path, "cifar10", "train", SMALL)
    assert isinstance(train.pixels, InMemory)
    np.testing.assert_array_equal(train.pixels.array, pixels)
    assert (train.classes[0], train.labels.tolist()) == ("airplane", [1, 2, 3, 4, 5])
    smaller = load_images(tmp_path, "svhn", "test", Fitting(size=16, shorter_side=16))
    assert isinstance(smaller.pixels, InMemory)
    assert smaller.pixels.array.shape == (5, 16, 16, 3)
    limited = load_images(tmp_path, "cifar10", "train", SMALL, limit_per_class=1)
    assert (len(limited), limited.digest) == (5, train.digest)


def empty_class(root: Path) -> str:
    (root / "photos/train/nothing").mkdir()
    return r"class folder .*nothing is empty"


def text_file(root: Path) -> str:
    (root / "photos/train/arrow/notes.txt").write_text("hello")
    return r"1 of 13 files will not do: .*notes\.txt: no image .*\. Remove them$"


def truncated_image(root: Path) -> str:
    path = root / "photos/train/corner/002.png"
    path.write_bytes(path.read_bytes()[:200])
    return r"1 of 12 files will not do: .*corner.002\.png"


def many_bad_files(root: Path) -> str:
    for index in range(14):
        (root / f"photos/train/arrow/bad-{index:02}.png").write_bytes(b"")
    return r"14 of 26 files will not do: .*bad-00\.png.*bad-09\.png.*and 4 more"


def dangling_link(root: Path) -> str:
    (root / "photos/train/arrow/gone.png").symlink_to(root / "nowhere.png")
    return r"gone\.png: No such file"


def no_class_folders(root: Path) -> str:
    shutil.rmtree(root / "photos/train")
    (root / "photos/train").mkdir()
    Image.fromarray(pattern(0, 0)).save(root / "photos/train/000.png")
    return "has no class folders"


def no_split(root: Path) -> str:
    shutil.rmtree(root / "photos/train")
    return "no folder .*train: a data set holds train/CLASS"


def no_data_set(root: Path) -> str:
    (root / "photos").rename(root / "pictures")
    return r"no data set 'photos' in .*\(there: pictures\)"


def no_root(root: Path) -> str:
    shutil.rmtree(root)
    return "no data root"


@pytest.mark.parametrize(
    "spoil",
    [
        empty_class,
        text_file,
        truncated_image,
        many_bad_files,
        dangling_link,
        no_class_folders,
        no_split,
        no_data_set,
        no_root,
    ],
)
def test_bad_data_is_named(root: Path, spoil: Callable[[Path], str]) -> None:
    said = spoil(root)
    with pytest.raises(DataError, match=said):
        load_images(root, "photos", "train", SMALL)


@pytest.mark.parametrize("fitting", [SMALL, LARGE])
def test_unreadable_files_are_left_out_and_named_when_asked(root: Path, fitting: Fitting) -> None:
    truncated_image(root)
    text_file(root)
    images = load_images(root, "photos", "train", fitting, skip_unreadable=True)
    assert images.labels.tolist() == [0] * 4 + [1] * 3 + [2] * 4
    assert [name for name in ("notes.txt", "002.png") if any(name in line for line in images.skipped)] == [
        "notes.txt",
        "002.png",
    ]
    assert sum(len(batch) for batch in images.batches(4)) == 11


def test_a_class_without_a_single_readable_image_is_an_error_even_so(root: Path) -> None:
    for path in (root / "photos/train/ramp").iterdir():
        path.write_bytes(b"junk")
    with pytest.raises(DataError, match=r"class folder .*ramp has no image that can be read"):
        load_images(root, "photos", "train", SMALL, skip_unreadable=True)


def test_a_test_class_that_training_lacks_is_named(root: Path) -> None:
    (root / "photos/test/arrow").rename(root / "photos/test/arows")
    with pytest.raises(DataError, match=r"test has classes that .*train has not: arows"):
        load_images(root, "photos", "test", SMALL)


def test_a_file_that_goes_bad_later_is_named(large_data_root: Path, tmp_path: Path) -> None:
    shutil.copytree(large_data_root, tmp_path, dirs_exist_ok=True)
    images = load_images(tmp_path, "photos", "test", LARGE)
    (tmp_path / "photos/test/corner/1001.jpg").unlink()
    with pytest.raises(DataError, match=r"1001\.jpg: No such file"):
        list(images.batches(12))


def test_the_images_of_one_class(root: Path) -> None:
    images = load_images(root, "photos", "train", SMALL)
    corner = images.of_class("corner")
    assert corner.labels.tolist() == [1] * 4
    assert corner.classes == CLASSES
    with pytest.raises(DataError, match="no class 'cornr'; the classes are arrow, corner, ramp"):
        images.of_class("cornr")


def test_data_sets_of_a_root(root: Path) -> None:
    (root / ".hidden").mkdir()
    (root / "notes.txt").write_text("x")
    (root / "another").mkdir()
    assert data_sets(root) == ["another", "photos"]
