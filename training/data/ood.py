"""Out-of-distribution test sets by name: noise that is made here, or images from the data root, in a drawn number.

AUPR depends on the ratio of out to in, so each set is drawn to a fixed ratio of the in-distribution count (1:5 in the
papers of this literature), or taken whole if it has fewer images.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serving.images.fitting import Fitting
from serving.images.image_file import ImageError, fit_image, read_image
from training.data.image_set import DataError, Images, ImageSet, InMemory, OnDisk, UnreadableError
from training.data.noise import NOISES
from training.data.sources import LARGEST_IN_MEMORY, load_images
from training.data.stored_arrays import open_array
from training.data.torchvision_layouts import has_torchvision_layout


@dataclass(frozen=True)
class OodSet:
    """A drawn set: ``images`` in number, of ``available``; ``source`` is 'noise' or 'data'."""

    name: str
    images: ImageSet
    available: int
    source: str


def wanted_count(normal: int, ratio: float) -> int:
    """Return how many images to draw beside ``normal`` in-distribution ones: the rounded share, at least one."""
    return max(1, round(normal * ratio))


def is_there(root: Path, name: str) -> bool:
    """Return whether ``load_ood`` finds a set ``name`` in ``root``, or makes it; it may still be unreadable."""
    return name in NOISES or (root / f"{name}.npy").is_file() or (root / name).is_dir()


def load_ood(
    root: Path, name: str, fitting: Fitting, count: int, seed: int = 0, *, skip_unreadable: bool = False
) -> OodSet | None:
    """Return ``count`` images (all, if fewer) of set ``name``, chosen by ``seed``; None if the root has no such set.

    Noise sets ('gaussian', 'rademacher', 'blobs') are made. Of the root are taken, in this order: ``NAME.npy`` (uint8
    [N, H, W, 3]), the split 'test' of ``NAME/``, or a flat folder ``NAME/*`` of image files. With ``skip_unreadable``
    others are drawn for files that do not decode. Raises DataError for a set that is there and cannot be read.
    """
    seed += zlib.crc32(name.encode())  # sets of equal size must not be drawn alike
    if name in NOISES:
        made = NOISES[name](count, fitting.size, seed)
        return OodSet(name, _unlabelled(name, InMemory(made)), count, "noise")
    array = root / f"{name}.npy"
    folder = root / name
    if array.is_file():
        images = _read_array(array, name, fitting, count, seed)
    elif not folder.is_dir():
        return None
    elif has_torchvision_layout(folder, name) or any(_is_class_folder(entry) for entry in folder.iterdir()):
        whole = load_images(root, name, "test", fitting, skip_unreadable=skip_unreadable)
        return OodSet(name, whole.take(_draw(len(whole), count, seed)), len(whole), "data")
    else:
        images = _read_flat_folder(folder, name, fitting, count, seed, skip_unreadable)
    return images


def _is_class_folder(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def _read_array(path: Path, name: str, fitting: Fitting, count: int, seed: int) -> OodSet:
    stored = open_array(path)
    if stored.ndim != 4 or stored.shape[-1] != 3 or stored.dtype != np.uint8 or stored.size == 0:
        raise DataError(f"{path} holds {stored.dtype} {list(stored.shape)}, not uint8 [images, height, width, 3]")
    chosen = stored[_draw(len(stored), count, seed)]
    fitted = np.stack([fit_image(Image.fromarray(image), fitting) for image in chosen])
    return OodSet(name, _unlabelled(name, InMemory(fitted)), len(stored), "data")


def _read_flat_folder(folder: Path, name: str, fitting: Fitting, count: int, seed: int, skip: bool) -> OodSet:
    files = sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    if not files:
        raise DataError(f"{folder} is empty: put image files into it, or remove it")
    fitted: dict[int, Images] = {}
    skipped: list[str] = []
    for index in _order(len(files), count, seed).tolist():
        if len(fitted) == count:
            break
        try:
            fitted[index] = _read_file(files[index], fitting)
        except UnreadableError as error:
            if not skip:
                raise UnreadableError(f"{error}; remove the file") from error
            skipped.append(str(error))
    if not fitted:
        raise DataError(f"{folder} has no image that can be read")
    drawn = sorted(fitted)
    if fitting.size <= LARGEST_IN_MEMORY:
        pixels: InMemory | OnDisk = InMemory(np.stack([fitted[index] for index in drawn]))
    else:
        pixels = OnDisk(tuple(files[index] for index in drawn), fitting)
    return OodSet(name, _unlabelled(name, pixels, tuple(skipped)), len(files) - len(skipped), "data")


def _read_file(path: Path, fitting: Fitting) -> Images:
    try:
        return read_image(path.read_bytes(), fitting)
    except ImageError as error:
        raise UnreadableError(f"{path}: {error.reason}") from error
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror}") from error


def _order(available: int, count: int, seed: int) -> NDArray[np.int64]:
    """Return the order in which images are drawn: at random, or as they lie where all are wanted."""
    if count >= available:
        return np.arange(available, dtype=np.int64)
    return np.random.default_rng(seed).permutation(available)


def _draw(available: int, count: int, seed: int) -> NDArray[np.int64]:
    return np.sort(_order(available, count, seed)[:count])


def _unlabelled(name: str, pixels: InMemory | OnDisk, skipped: tuple[str, ...] = ()) -> ImageSet:
    return ImageSet(name, "test", (name,), np.zeros(len(pixels), np.int64), pixels, digest="", skipped=skipped)
