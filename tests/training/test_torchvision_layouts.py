"""torchvision's own files: read as they are, whole or damaged."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from torchvision.datasets import CIFAR10, CIFAR100, SVHN

from tests.training.torchvision_files import (
    CIFAR10_NAMES,
    python_2_pickle,
    write_cifar10,
    write_cifar100,
    write_svhn,
)
from training.data.image_set import DataError
from training.data.torchvision_layouts import has_torchvision_layout, read_torchvision_layout

TRAIN_LABELS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]


def some_images(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_cifar10(tmp_path / "cifar10", some_images(10), TRAIN_LABELS, some_images(4))
    write_cifar100(tmp_path / "cifar100", some_images(10), TRAIN_LABELS, some_images(4))
    write_svhn(tmp_path / "svhn", "train", some_images(10), TRAIN_LABELS)
    write_svhn(tmp_path / "svhn", "test", some_images(4), [0, 1, 2, 3])
    return tmp_path


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn"])
def test_both_splits_are_read(root: Path, name: str) -> None:
    assert has_torchvision_layout(root / name, name)
    for split, count, expected in (("train", 10, TRAIN_LABELS), ("test", 4, [0, 1, 2, 3])):
        images, labels, classes = read_torchvision_layout(root / name, name, split)
        np.testing.assert_array_equal(images, some_images(count))
        assert labels.tolist() == expected
        assert labels.dtype == np.int64
        assert images.flags.c_contiguous
        assert len(classes) == (100 if name == "cifar100" else 10)


def test_class_names(root: Path) -> None:
    assert read_torchvision_layout(root / "cifar10", "cifar10", "test")[2] == tuple(CIFAR10_NAMES)
    assert read_torchvision_layout(root / "cifar100", "cifar100", "test")[2][7] == "class_07"
    assert read_torchvision_layout(root / "svhn", "svhn", "test")[2] == tuple("0123456789")


@pytest.mark.parametrize(("kind", "name"), [(CIFAR10, "cifar10"), (CIFAR100, "cifar100")])
def test_torchvision_reads_the_same_where_it_takes_the_files(
    root: Path, kind: type[CIFAR10], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)  # they are not the published
    dataset = kind(str(root / name), train=True)
    images, labels, classes = read_torchvision_layout(root / name, name, "train")
    np.testing.assert_array_equal(dataset.data, images)
    assert (dataset.targets, tuple(dataset.classes)) == (labels.tolist(), classes)


def test_torchvision_reads_the_same_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.svhn.check_integrity", lambda *_: True)
    dataset = SVHN(str(root / "svhn"), split="test")
    images, labels, _ = read_torchvision_layout(root / "svhn", "svhn", "test")
    np.testing.assert_array_equal(dataset.data.transpose(0, 2, 3, 1), images)
    np.testing.assert_array_equal(dataset.labels, labels)


def test_pickles_of_today_are_read_too(root: Path) -> None:
    content = {"labels": [7, 8], "data": some_images(2).transpose(0, 3, 1, 2).reshape(2, 3072)}
    for protocol in (2, 5):
        (root / "cifar10/cifar-10-batches-py/test_batch").write_bytes(pickle.dumps(content, protocol))
        images, labels, _ = read_torchvision_layout(root / "cifar10", "cifar10", "test")
        np.testing.assert_array_equal(images, some_images(2))
        assert labels.tolist() == [7, 8]


def test_a_pickle_that_would_run_something_is_refused(root: Path, tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    (root / "cifar10/cifar-10-batches-py/test_batch").write_bytes(
        b"cos\nsystem\n(S'touch " + str(witness).encode() + b"'\ntR."
    )
    with pytest.raises(DataError, match=r"test_batch is damaged: it asks for (os|posix)\.system"):
        read_torchvision_layout(root / "cifar10", "cifar10", "test")
    assert not witness.exists()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar10", "cifar-10-batches-py/data_batch_4"),
        ("cifar10", "cifar-10-batches-py/batches.meta"),
        ("cifar100", "cifar-100-python/train"),
        ("svhn", "train_32x32.mat"),
    ],
)
def test_a_missing_or_truncated_file_is_named(root: Path, name: str, file: str) -> None:
    path = root / name / file
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=f"{path.name} is damaged"):
        read_torchvision_layout(root / name, name, "train")
    path.unlink()
    with pytest.raises(DataError, match=path.name):
        read_torchvision_layout(root / name, name, "train")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"data": np.zeros((2, 3072), np.uint8)}, "no 'labels'"),
        ({"labels": [0, 1]}, "no 'data'"),
        ({"labels": [0, 1], "data": np.zeros((2, 3073), np.uint8)}, "not uint8"),
        ({"labels": [0], "data": np.zeros((2, 3072), np.uint8)}, "2 images and 1 labels"),
        ({"labels": [0, 10], "data": np.zeros((2, 3072), np.uint8)}, r"label outside 0 \.\. 9"),
        ({"labels": [], "data": np.zeros((0, 3072), np.uint8)}, "0 images"),
        ([1, 2], "no 'data'"),
    ],
)
def test_a_file_of_something_else_is_refused(root: Path, content: object, said: str) -> None:
    (root / "cifar10/cifar-10-batches-py/test_batch").write_bytes(python_2_pickle(content))
    with pytest.raises(DataError, match=said):
        read_torchvision_layout(root / "cifar10", "cifar10", "test")


def test_class_folders_are_not_taken_for_it(tmp_path: Path) -> None:
    for name in ("cifar10", "svhn", "photos"):
        (tmp_path / name / "train" / "cat").mkdir(parents=True)
        assert not has_torchvision_layout(tmp_path / name, name)
