"""Reading CIFAR-10, CIFAR-100 and SVHN from the files that torchvision downloads, as they are.

torchvision's own classes take only the published files, byte for byte; these readers also take a part or a repacked
copy. A pickle could run code: only the few names that a pickled array needs are looked up, anything else is refused.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.image_set import DataError, Images, Labels

Split = tuple[Images, Labels, tuple[str, ...]]

SIDE = 32


@dataclass(frozen=True)
class _CifarFiles:
    """Where CIFAR's pickles are, under which key they hold the labels, and where the class names are."""

    folder: str
    files: dict[str, tuple[str, ...]]
    labels: str
    names_file: str
    names: str


_CIFAR = {
    "cifar10": _CifarFiles(
        folder="cifar-10-batches-py",
        files={"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)},
        labels="labels",
        names_file="batches.meta",
        names="label_names",
    ),
    "cifar100": _CifarFiles(
        folder="cifar-100-python",
        files={"train": ("train",), "test": ("test",)},
        labels="fine_labels",
        names_file="meta",
        names="fine_label_names",
    ),
}


def has_torchvision_layout(folder: Path, name: str) -> bool:
    """Return whether ``folder`` holds data set ``name`` as torchvision lays it out, rather than image files."""
    if name in _CIFAR:
        return (folder / _CIFAR[name].folder).is_dir()
    return name == "svhn" and any(_svhn_file(folder, split).is_file() for split in ("train", "test"))


def read_torchvision_layout(folder: Path, name: str, split: str) -> Split:
    """Return images uint8 [N, 32, 32, 3], labels int64 [N] and class names of split 'train' or 'test'.

    Raises DataError naming the file that is missing, damaged, or not what it should be.
    """
    images, labels, classes = (
        _read_cifar(folder, _CIFAR[name], split) if name in _CIFAR else _read_svhn(_svhn_file(folder, split))
    )
    if len(images) != len(labels) or len(images) == 0:
        raise DataError(f"{folder}: split {split!r} has {len(images)} images and {len(labels)} labels")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise DataError(f"{folder}: split {split!r} has a label outside 0 .. {len(classes) - 1}")
    return images, labels, classes


def _read_cifar(folder: Path, layout: _CifarFiles, split: str) -> Split:
    batches = [_Batch(folder / layout.folder / file) for file in layout.files[split]]
    planes = np.concatenate([batch.pixels() for batch in batches])
    images = np.ascontiguousarray(planes.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
    labels = np.asarray([label for batch in batches for label in batch.entry(layout.labels)], np.int64)
    names = _Batch(folder / layout.folder / layout.names_file).entry(layout.names)
    return images, labels, tuple(str(name) for name in names)


class _Batch:
    """One pickled dictionary of CIFAR. Raises DataError if it is not there or not one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open("rb") as file:
                self._content: dict[str, Any] = _ArrayUnpickler(file, encoding="latin1").load()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error
        except Exception as error:  # a damaged pickle raises nearly anything
            raise DataError(f"{path} is damaged: {error}") from error

    def entry(self, key: str) -> list[Any]:
        """Return the list under ``key``."""
        return list(self._get(key))

    def pixels(self) -> NDArray[np.uint8]:
        """Return 'data': uint8 [N, 3072], the red, green and blue planes of each image."""
        data = self._get("data")
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (3 * SIDE * SIDE,):
            raise DataError(f"{self._path} is damaged: its data is not uint8 [images, {3 * SIDE * SIDE}]")
        return data

    def _get(self, key: str) -> Any:
        if not isinstance(self._content, dict) or key not in self._content:
            raise DataError(f"{self._path} is damaged: it has no {key!r}")
        return self._content[key]


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles arrays and plain data, and refuses every name that could do more."""

    _ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy._core.numeric", "_frombuffer"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        """Return the object of that name, if an array needs it. Raises UnpicklingError for any other."""
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")
        return super().find_class(module, name)


def _svhn_file(folder: Path, split: str) -> Path:
    return folder / f"{split}_32x32.mat"


def _read_svhn(path: Path) -> Split:
    """Return the cropped digits; the file's X is [32, 32, 3, N] and its label 10 is the digit 0."""
    from scipy.io import loadmat

    if not path.is_file():
        raise DataError(f"no file {path}")
    try:
        content = loadmat(str(path), variable_names=["X", "y"])
        pixels, digits = np.asarray(content["X"]), np.asarray(content["y"]).reshape(-1)
    except Exception as error:  # a damaged file raises nearly anything
        raise DataError(f"{path} is damaged: {error}") from error
    if pixels.ndim != 4 or pixels.shape[:3] != (SIDE, SIDE, 3) or pixels.dtype != np.uint8:
        raise DataError(f"{path} is damaged: its X is not uint8 [{SIDE}, {SIDE}, 3, images]")
    images = np.ascontiguousarray(pixels.transpose(3, 0, 1, 2))
    return images, digits.astype(np.int64) % 10, tuple("0123456789")
