"""CIFAR-10, CIFAR-100 and SVHN files as their makers wrote them: Python 2 pickles, and MATLAB 5."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def python_2_pickle(value: object) -> bytes:
    """Return ``value`` (dict, list, str, int, uint8 array) as Python 2's cPickle protocol 2 writes it.

    Python 2's str is a byte string, whence torchvision's ``encoding="latin1"``; numpy's names are those of its day.
    """
    return b"\x80\x02" + _pickled(value) + b"."


def _pickled(value: object) -> bytes:
    if isinstance(value, dict):
        pairs = b"".join(_pickled(key) + _pickled(item) for key, item in value.items())
        return b"}(" + pairs + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(_pickled(item) for item in value) + b"e"
    if isinstance(value, str):
        return _byte_string(value.encode("latin1"))
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    assert isinstance(value, np.ndarray)
    assert value.dtype == np.uint8
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"(" + b"".join(_pickled(length) for length in value.shape) + b"t"
    return empty + b"(K\x01" + shape + dtype + b"\x89" + _byte_string(value.tobytes()) + b"tb"


def _byte_string(content: bytes) -> bytes:
    if len(content) < 256:
        return b"U" + bytes([len(content)]) + content
    return b"T" + struct.pack("<i", len(content)) + content


def _planes(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), 3072)


def write_cifar10(folder: Path, train: NDArray[np.uint8], labels: list[int], test: NDArray[np.uint8]) -> None:
    """Write ``train`` [5n, 32, 32, 3] in five batches, and ``test`` with labels 0, 1, ...."""
    batches = folder / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    size = len(train) // 5
    for number in range(5):
        part = slice(number * size, (number + 1) * size)
        content = {
            "batch_label": f"training batch {number + 1} of 5",
            "labels": labels[part],
            "data": _planes(train[part]),
            "filenames": [f"{index}.png" for index in range(size)],
        }
        (batches / f"data_batch_{number + 1}").write_bytes(python_2_pickle(content))
    content = {"batch_label": "testing batch 1 of 1", "labels": list(range(len(test))), "data": _planes(test)}
    (batches / "test_batch").write_bytes(python_2_pickle(content))
    meta = {"num_cases_per_batch": size, "label_names": CIFAR10_NAMES, "num_vis": 3072}
    (batches / "batches.meta").write_bytes(python_2_pickle(meta))


def write_cifar100(folder: Path, train: NDArray[np.uint8], labels: list[int], test: NDArray[np.uint8]) -> None:
    """Write both splits; every coarse label is 0, the fine ones of ``test`` are 0, 1, ...."""
    pickles = folder / "cifar-100-python"
    pickles.mkdir(parents=True)
    for name, images, fine in (("train", train, labels), ("test", test, list(range(len(test))))):
        content = {"fine_labels": fine, "coarse_labels": [0] * len(fine), "data": _planes(images)}
        (pickles / name).write_bytes(python_2_pickle(content))
    names = [f"class_{index:02}" for index in range(100)]
    meta = {"fine_label_names": names, "coarse_label_names": [f"group_{index}" for index in range(20)]}
    (pickles / "meta").write_bytes(python_2_pickle(meta))


def write_svhn(folder: Path, split: str, images: NDArray[np.uint8], digits: list[int]) -> None:
    """Write a split; the digit 0 is labelled 10, as published."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.array([[digit or 10] for digit in digits], np.uint8)
    savemat(folder / f"{split}_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": labels}, do_compression=True)
