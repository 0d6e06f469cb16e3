"""A labelled set of images, all of one size when read: in memory as one uint8 array, or on disk as files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serving.images.fitting import Fitting
from serving.images.image_file import ImageError, decode_image, fit_image

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class InMemory:
    """Pixels uint8 [N, size, size, 3], RGB."""

    array: Images

    def __len__(self) -> int:
        return len(self.array)

    def take(self, indices: NDArray[np.int64]) -> InMemory:
        """Return the images at ``indices``."""
        return InMemory(self.array[indices])

    def read(self, start: int, stop: int) -> Images:
        """Return images start..stop-1 as uint8 [n, size, size, 3]."""
        return self.array[start:stop]


@dataclass(frozen=True)
class OnDisk:
    """Image files, decoded and fitted each time they are read."""

    paths: tuple[Path, ...]
    fitting: Fitting

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: NDArray[np.int64]) -> OnDisk:
        """Return the files at ``indices``."""
        return OnDisk(tuple(self.paths[int(i)] for i in indices), self.fitting)

    def read(self, start: int, stop: int) -> Images:
        """Return images start..stop-1, centre-cropped, as uint8 [n, size, size, 3]. Raises DataError naming a file."""
        return np.stack([fit_image(open_image(path), self.fitting) for path in self.paths[start:stop]])


@dataclass(frozen=True)
class ImageSet:
    """Images with labels.

    ``labels`` int64 [N] index into ``classes``. ``digest`` ('sha256:...') is of the whole split as found, and stays the
    same for subsets of it. ``skipped`` names the files that did not decode and were left out on request. ``found``: of
    a set that was limited, how many images of each class there were; see ``available``.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    labels: Labels
    pixels: InMemory | OnDisk
    digest: str
    skipped: tuple[str, ...] = ()
    found: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> ImageSet:
        """Return the subset at ``indices``, in that order; classes, digest and name stay."""
        return replace(self, labels=self.labels[indices], pixels=self.pixels.take(indices))

    def of_class(self, name: str) -> ImageSet:
        """Return the images of one class. Raises DataError listing the classes if there is none of that name."""
        return self.take(np.flatnonzero(self.labels == class_index(self.classes, name)))

    def available(self, name: str | None) -> int:
        """Return how many images of class ``name`` (None: of all) a set as loaded had before it was limited."""
        counts = self.found or np.bincount(self.labels, minlength=len(self.classes)).tolist()
        return int(sum(counts) if name is None else counts[class_index(self.classes, name)])

    def batches(self, size: int) -> Iterator[Images]:
        """Yield the images in order, ``size`` at a time, as uint8 [n, size, size, 3]."""
        for start in range(0, len(self), size):
            yield self.pixels.read(start, min(start + size, len(self)))


class DataError(ValueError):
    """Data that is missing, empty, unreadable, or does not suit the recipe; the message says which and what to do."""


class UnreadableError(DataError):
    """Image files that do not decode; who reads them knows whether its command can leave such files out."""


def open_image(path: Path) -> Image.Image:
    """Return the image in a file, upright and RGB. Raises DataError naming the file and what is wrong with it."""
    try:
        return decode_image(path.read_bytes())
    except ImageError as error:
        raise DataError(f"{path}: {error.reason}") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


def class_index(classes: tuple[str, ...], name: str) -> int:
    """Return the index of class ``name``; raises DataError listing the classes if there is none of that name."""
    if name not in classes:
        shown = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
        raise DataError(f"no class {name!r}; the classes are {shown}")
    return classes.index(name)
