"""What is in a data root, in words: `quarterturn data`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from training.corruptions.catalog import CORRUPTIONS
from training.corruptions.frost_photographs import PACKAGE
from training.corruptions.layout import LABELS_FILE, NAME, finished_corruptions, read_mark
from training.data.catalog import CATALOG, DataSetEntry, describe
from training.data.image_set import DataError

ARRAYS = (
    "An out-of-distribution (OOD) set may be a file NAME.npy, uint8 [images, height, width, 3], taken before NAME/."
)
NOTHING = "-"
MOST_NAMED = 3


@dataclass(frozen=True)
class DataSetState:
    """A data set in words. ``there``: 'yes', 'no', 'empty', or what of it; ``how`` to get the rest, '-': nothing."""

    name: str
    there: str
    purpose: str
    how: str


def data_set_states(root: Path) -> list[DataSetState]:
    """Return the state of every set of the catalogue, then of the user's own: folders and NAME.npy of ``root``."""
    entries = [entry for entry in root.iterdir() if not entry.name.startswith(".")] if root.is_dir() else []
    names = {entry.name for entry in entries if entry.is_dir()}
    arrays = {entry.stem for entry in entries if entry.is_file() and entry.suffix == ".npy"}
    own = sorted((names | arrays) - {entry.name for entry in CATALOG})
    return [_known(root, entry, entry.name in arrays) for entry in CATALOG] + [
        _own(root, name, name in names, name in arrays) for name in own
    ]


def _known(root: Path, entry: DataSetEntry, array: bool) -> DataSetState:
    folder = _folder(root / entry.name)
    if entry.name == NAME and folder == "yes":
        there, how = corrupted_images_state(root / entry.name)
        return DataSetState(entry.name, there, entry.purpose, how)
    whole = folder == "yes" or (array and entry.only_ood)
    there = _with_array(folder, entry.name) if array else folder
    return DataSetState(entry.name, there, entry.purpose, NOTHING if whole else describe(entry))


def _own(root: Path, name: str, folder: bool, array: bool) -> DataSetState:
    state = _folder(root / name)
    purpose = "a data set of your own" if folder else "an OOD set of your own"
    how = "put images into it, or remove it" if state == "empty" else NOTHING
    return DataSetState(name, _with_array(state, name) if array else state, purpose, how)


def _with_array(folder: str, name: str) -> str:
    return f"yes; for OOD {name}.npy" if folder == "yes" else f"for OOD: {name}.npy"


def _folder(folder: Path) -> str:
    """Return 'yes', 'no', or 'empty' if there is no file at any depth, hidden ones aside."""
    if not folder.is_dir():
        return "no"
    files = (name for _, _, names in os.walk(folder, followlinks=True) for name in names)
    return "yes" if any(not name.startswith(".") for name in files) else "empty"


def corrupted_images_state(folder: Path) -> tuple[str, str]:
    """Return, of a folder in CIFAR-10-C's layout with files in it, what is there and how to get the rest, in words."""
    try:
        mark = read_mark(folder)
    except DataError as error:
        return "damaged", str(error)
    made = finished_corruptions(folder, mark)
    lacking = [name for name in CORRUPTIONS if name not in made]
    parts = ["generated" if mark else "yes"]
    if len(lacking) > MOST_NAMED:
        parts.append(f"{len(made)} of {len(CORRUPTIONS)} corruptions")
    elif lacking:
        parts.append(f"without {', '.join(lacking)}")
    how = NOTHING
    if lacking:
        how = "the same --generate goes on" if mark else f"the missing NAME.npy into {folder.name}/"
    if mark and lacking == ["frost"]:
        how = f"pip install --no-deps {PACKAGE}, then the same --generate"
    if not (folder / LABELS_FILE).is_file():
        parts.append(f"without {LABELS_FILE}")
        how = f"remove {folder} and make it again" if mark else f"{LABELS_FILE} into {folder.name}/"
    return ", ".join(parts), how
