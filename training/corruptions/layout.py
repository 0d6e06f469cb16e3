"""CIFAR-10-C's layout: NAME.npy, uint8 [5N, size, size, 3] with severity 1 first, and labels.npy [5N].

The published files load as they are. Files made here lie the same way, with a mark, generated.json, beside them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.corruptions.catalog import CORRUPTIONS, SEVERITIES
from training.data.image_set import DataError, Images, Labels
from training.data.stored_arrays import open_array

NAME = "cifar10-c"  # of the data set
LABELS_FILE = "labels.npy"
MARK_FILE = "generated.json"

Mark = dict[str, Any]


@dataclass(frozen=True)
class CorruptedImages:
    """A folder in this layout whose files fit together.

    ``labels`` int64 [N], the same for every corruption and severity. ``there``: the corruptions it holds, in the order
    of the catalogue. ``mark``: what generated.json says, None for published files.
    """

    folder: Path
    labels: Labels
    there: tuple[str, ...]
    mark: Mark | None

    @property
    def missing(self) -> list[str]:
        """The corruptions it does not hold."""
        return [name for name in CORRUPTIONS if name not in self.there]

    def images(self, name: str, severity: int) -> Images:
        """Return the N images of a corruption at a severity 1 .. 5, uint8 [N, size, size, 3], read as they are used."""
        stored = open_array(npy_path(self.folder, name))
        count = len(self.labels)
        return stored[(severity - 1) * count : severity * count]


def npy_path(folder: Path, name: str) -> Path:
    """Return where the images of corruption ``name`` lie."""
    return folder / f"{name}.npy"


def open_corrupted_images(folder: Path, size: int, classes: int) -> CorruptedImages | None:
    """Return what ``folder`` holds, None if there is no such folder, or no corruption in it.

    Checks that labels repeat severity by severity and lie in 0 .. classes-1, and that every file has an image for each
    label, of ``size`` pixels. Raises DataError.
    """
    if not folder.is_dir():
        return None
    mark = read_mark(folder)
    there = finished_corruptions(folder, mark)
    if not there:
        return None
    labels = _read_labels(folder / LABELS_FILE, classes)
    expected = (len(SEVERITIES) * len(labels), size, size, 3)
    for name in there:
        stored = open_array(npy_path(folder, name))
        if stored.dtype != np.uint8 or stored.shape != expected:
            raise DataError(
                f"{npy_path(folder, name)} holds {stored.dtype} {list(stored.shape)}; with {LABELS_FILE} of "
                f"{expected[0]} labels and a network of {size} pixels it must hold uint8 {list(expected)}"
            )
    return CorruptedImages(folder, labels, tuple(there), mark)


def finished_corruptions(folder: Path, mark: Mark | None) -> list[str]:
    """Return the corruptions that ``folder`` holds; a file that a mark does not list is unfinished and not counted."""
    return [name for name in CORRUPTIONS if npy_path(folder, name).is_file() and (not mark or name in mark["made"])]


def read_mark(folder: Path) -> Mark | None:
    """Return what generated.json says; None if there is none. Raises DataError if it is damaged."""
    path = folder / MARK_FILE
    try:
        mark: Mark = json.loads(path.read_text(encoding="utf-8"))
        return {**mark, "made": list(mark["made"]), "source": dict(mark["source"])}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged; remove {folder} and make it again") from error


def _read_labels(path: Path, classes: int) -> Labels:
    stored = np.asarray(open_array(path))
    if stored.ndim != 1 or not np.issubdtype(stored.dtype, np.integer) or len(stored) % len(SEVERITIES):
        raise DataError(f"{path} holds {stored.dtype} {list(stored.shape)}, not a whole number of labels a severity")
    by_severity = stored.astype(np.int64).reshape(len(SEVERITIES), -1)
    labels: Labels = by_severity[0]
    if not len(labels) or not (by_severity == labels).all():
        raise DataError(f"{path} does not hold the same labels for each of the {len(SEVERITIES)} severities")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"{path} has a label outside 0 .. {classes - 1}, the classes of the test images")
    return labels
