"""Reading a split of a data set from a data root: torchvision's own layouts, or class folders of image files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serving.images.fitting import Fitting
from serving.images.image_file import ImageError, fit_image, read_image
from training.data.image_set import DataError, Images, ImageSet, InMemory, Labels, OnDisk, UnreadableError
from training.data.torchvision_layouts import has_torchvision_layout, read_torchvision_layout
from training.progress import track

LARGEST_IN_MEMORY = 64  # pixels a side; larger images stream from disk
MOST_FILES_NAMED = 10


def data_sets(root: Path) -> list[str]:
    """Return the names of the data sets in ``root``, sorted. Raises DataError if there is no such folder."""
    if not root.is_dir():
        raise DataError(f"no data root {root}; `quarterturn data --root {root}` says how to fill one")
    return [folder.name for folder in _folders(root)]


def load_images(
    root: Path,
    name: str,
    split: str,
    fitting: Fitting,
    *,
    skip_unreadable: bool = False,
    limit_per_class: int = 0,
) -> ImageSet:
    """Load split 'train' or 'test' of data set ``name``, fitted to ``fitting``.

    torchvision's folders of cifar10, cifar100 and svhn are read as they are; any other data set is class folders,
    ``root/name/split/CLASS/*``. Images up to LARGEST_IN_MEMORY pixels come in memory, larger ones as files.
    ``limit_per_class`` keeps that many images of each class, by a fixed seed. Raises DataError: data set or split not
    there, an empty class folder, a test class that train has not; UnreadableError for unreadable images (unless
    ``skip_unreadable``).
    """
    folder = root / name
    if not folder.is_dir():
        there = ", ".join(data_sets(root)) or "none"
        raise DataError(f"no data set {name!r} in {root} (there: {there}); `quarterturn data` says how to get one")
    if has_torchvision_layout(folder, name):
        images, labels, classes = read_torchvision_layout(folder, name, split)
        digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
        if images.shape[1:3] != (fitting.size, fitting.size):
            images = np.stack([fit_image(Image.fromarray(image), fitting) for image in images])
        whole = ImageSet(name, split, classes, labels, InMemory(images), f"sha256:{digest}")
    else:
        whole = _read_class_folders(folder, name, split, fitting, skip_unreadable)
    return _limit(whole, limit_per_class) if limit_per_class else whole


def _limit(images: ImageSet, per_class: int) -> ImageSet:
    generator = np.random.default_rng(0)
    chosen = [
        generator.permutation(np.flatnonzero(images.labels == label))[:per_class]
        for label in range(len(images.classes))
    ]
    found = tuple(np.bincount(images.labels, minlength=len(images.classes)).tolist())
    return replace(images.take(np.sort(np.concatenate(chosen))), found=found)


def _read_class_folders(folder: Path, name: str, split: str, fitting: Fitting, skip_unreadable: bool) -> ImageSet:
    classes = _classes(folder, split)
    files, labels = _list_files(folder / split, classes)
    in_memory = fitting.size <= LARGEST_IN_MEMORY

    def read(path: Path) -> tuple[bytes, Images | str]:
        """Return the digest of a file, and its image or what is wrong with it."""
        try:
            data = path.read_bytes()
        except OSError as error:
            return b"", str(error.strerror)
        try:
            return hashlib.sha256(data).digest(), read_image(data, fitting)
        except ImageError as error:
            return hashlib.sha256(data).digest(), error.reason

    digest = hashlib.sha256("\n".join(classes).encode("utf-8", "surrogateescape"))  # a name may be any bytes
    kept: list[int] = []
    unreadable: list[str] = []
    array = np.empty((len(files) if in_memory else 0, fitting.size, fitting.size, 3), np.uint8)
    with _threads() as pool:
        for index, (content, image) in enumerate(track(pool.map(read, files), f"reading {name}/{split}", len(files))):
            digest.update(labels[index].tobytes() + content)
            if isinstance(image, str):
                unreadable.append(f"{files[index]}: {image}")
                continue
            if in_memory:
                array[len(kept)] = image
            kept.append(index)
    if unreadable and not skip_unreadable:
        raise UnreadableError(
            f"{len(unreadable)} of {len(files)} files will not do: {_first(unreadable, '; ')}. Remove them"
        )
    indices: NDArray[np.int64] = np.asarray(kept, np.int64)
    for label in np.setdiff1d(labels, labels[indices]):
        raise DataError(f"class folder {folder / split / classes[label]} has no image that can be read")
    pixels = InMemory(array[: len(kept)]) if in_memory else OnDisk(tuple(files[i] for i in kept), fitting)
    return ImageSet(
        name, split, classes, labels[indices], pixels, f"sha256:{digest.hexdigest()}", skipped=tuple(unreadable)
    )


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """Threads whose waiting work is dropped when something goes wrong, so that Ctrl-C does not wait for all files."""
    pool = ThreadPoolExecutor()
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _classes(folder: Path, split: str) -> tuple[str, ...]:
    """Return the class names, sorted: those of ``train`` for every split, so that a label means the same in each.

    A data set without ``train`` has the classes of the split itself. Raises DataError if there are none, or the split
    has one that ``train`` has not.
    """
    own = _class_folders(folder / split)
    if split == "train" or not (folder / "train").is_dir():
        return own
    of_train = _class_folders(folder / "train")
    unknown = [name for name in own if name not in of_train]
    if unknown:
        raise DataError(f"{folder / split} has classes that {folder / 'train'} has not: {_first(unknown, ', ')}")
    return of_train


def _class_folders(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: a data set holds train/CLASS/* and test/CLASS/* image files")
    names = tuple(entry.name for entry in _folders(folder))
    if not names:
        raise DataError(f"{folder} has no class folders: one folder a class, image files inside")
    return names


def _list_files(folder: Path, classes: tuple[str, ...]) -> tuple[list[Path], Labels]:
    """List the files of ``folder/CLASS/*``, sorted by class and name, and their labels; hidden ones are passed over.

    A class may have no folder here. Raises DataError if it has one that is empty.
    """
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():
            continue
        found = sorted(
            entry for entry in (folder / name).iterdir() if not entry.is_dir() and not entry.name.startswith(".")
        )
        if not found:
            raise DataError(f"class folder {folder / name} is empty: put images of the class into it, or remove it")
        files += found
        labels += [label] * len(found)
    return files, np.asarray(labels, np.int64)


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _first(names: list[str], separator: str) -> str:
    more = len(names) - MOST_FILES_NAMED
    return separator.join(names[:MOST_FILES_NAMED]) + (f"{separator}and {more} more" if more > 0 else "")
