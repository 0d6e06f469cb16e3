"""Reading a split of a data set from a data root: torchvision's own layouts, or class folders of image files."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serving.images import ImageError, fit_image, read_image
from serving.manifest import Fitting
from training.data.image_set import DataError, Images, ImageSet, InMemory, Labels, OnDisk
from training.progress import track

LARGEST_IN_MEMORY = 64  # pixels a side; larger images stream from disk


def data_sets(root: Path) -> list[str]:
    """Return the names of the data sets in ``root``, sorted. Raises DataError if there is no such folder."""
    if not root.is_dir():
        raise DataError(f"no data root {root}; `quarterturn data --root {root}` says how to fill one")
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


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
    there, an empty class folder, an unreadable image (unless ``skip_unreadable``).
    """
    folder = root / name
    if not folder.is_dir():
        there = ", ".join(data_sets(root)) or "none"
        raise DataError(f"no data set {name!r} in {root} (there: {there}); `quarterturn data` says how to get one")
    known = _read_torchvision(folder, name, split)
    if known is not None:
        images, labels, classes = known
        digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
        if images.shape[1:3] != (fitting.size, fitting.size):
            images = np.stack([fit_image(Image.fromarray(image), fitting) for image in images])
        whole = ImageSet(name, split, classes, labels, InMemory(images), f"sha256:{digest}")
    else:
        whole = _read_class_folders(folder / split, name, split, fitting, skip_unreadable)
    return _limit(whole, limit_per_class) if limit_per_class else whole


def _limit(images: ImageSet, per_class: int) -> ImageSet:
    generator = np.random.default_rng(0)
    chosen = [
        generator.permutation(np.flatnonzero(images.labels == label))[:per_class]
        for label in range(len(images.classes))
    ]
    return images.take(np.sort(np.concatenate(chosen)))


def _read_torchvision(folder: Path, name: str, split: str) -> tuple[Images, Labels, tuple[str, ...]] | None:
    from torchvision import datasets

    train = split == "train"
    if name == "cifar10" and (folder / "cifar-10-batches-py").is_dir():
        cifar10 = datasets.CIFAR10(str(folder), train=train)
        return cifar10.data, np.asarray(cifar10.targets, np.int64), tuple(cifar10.classes)
    if name == "cifar100" and (folder / "cifar-100-python").is_dir():
        cifar100 = datasets.CIFAR100(str(folder), train=train)
        return cifar100.data, np.asarray(cifar100.targets, np.int64), tuple(cifar100.classes)
    if name == "svhn" and (folder / f"{split}_32x32.mat").is_file():
        svhn = datasets.SVHN(str(folder), split=split)
        pixels = np.ascontiguousarray(svhn.data.transpose(0, 2, 3, 1))
        return pixels, np.asarray(svhn.labels, np.int64), tuple("0123456789")
    return None


def _read_class_folders(folder: Path, name: str, split: str, fitting: Fitting, skip_unreadable: bool) -> ImageSet:
    files, labels, classes = list_class_folders(folder)
    in_memory = fitting.size <= LARGEST_IN_MEMORY

    def read(path: Path) -> tuple[bytes, Images | ImageError]:
        data = path.read_bytes()
        try:
            return hashlib.sha256(data).digest(), read_image(data, fitting)
        except ImageError as error:
            return hashlib.sha256(data).digest(), error

    digest = hashlib.sha256("\n".join(classes).encode())
    kept: list[int] = []
    skipped: list[str] = []
    array = np.empty((len(files) if in_memory else 0, fitting.size, fitting.size, 3), np.uint8)
    with ThreadPoolExecutor() as pool:
        for index, (content, image) in enumerate(track(pool.map(read, files), f"reading {name}/{split}", len(files))):
            digest.update(labels[index].tobytes() + content)
            if isinstance(image, ImageError):
                if not skip_unreadable:
                    raise DataError(
                        f"{files[index]}: {image.reason}; remove the file, or skip such files with "
                        "--set data.skip_unreadable=true"
                    )
                skipped.append(f"{files[index]}: {image.reason}")
                continue
            if in_memory:
                array[len(kept)] = image
            kept.append(index)
    indices: NDArray[np.int64] = np.asarray(kept, np.int64)
    pixels = InMemory(array[: len(kept)]) if in_memory else OnDisk(tuple(files[i] for i in kept), fitting)
    return ImageSet(
        name, split, classes, labels[indices], pixels, f"sha256:{digest.hexdigest()}", skipped=tuple(skipped)
    )


def list_class_folders(folder: Path) -> tuple[list[Path], Labels, tuple[str, ...]]:
    """List the files of ``folder/CLASS/*``, sorted by class and name, with labels and class names.

    Hidden files are passed over. Raises DataError if the folder is not there, has no class folder, or one is empty.
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: a data set holds train/CLASS/* and test/CLASS/* image files")
    class_folders = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not class_folders:
        raise DataError(f"{folder} has no class folders: one folder a class, image files inside")
    files: list[Path] = []
    labels: list[int] = []
    for label, class_folder in enumerate(class_folders):
        found = sorted(entry for entry in class_folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
        if not found:
            raise DataError(f"class folder {class_folder} is empty: put images of the class into it, or remove it")
        files += found
        labels += [label] * len(found)
    return files, np.asarray(labels, np.int64), tuple(entry.name for entry in class_folders)
