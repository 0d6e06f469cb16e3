"""The data sets that the recipes use: what each is for, how it must lie in a data root, and how to get it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from training.data.image_set import DataError


@dataclass(frozen=True)
class DataSetEntry:
    """A known data set. ``how`` says in words how to get it; ``download`` fetches it into its folder, where we can.

    ``only_ood``: it is for nothing but an out-of-distribution set, for which NAME.npy does as well as a folder.
    """

    name: str
    purpose: str
    how: str
    download: Callable[[Path], None] | None = None
    only_ood: bool = False


def _cifar10(folder: Path) -> None:
    from torchvision.datasets import CIFAR10

    CIFAR10(str(folder), download=True)


def _cifar100(folder: Path) -> None:
    from torchvision.datasets import CIFAR100

    CIFAR100(str(folder), download=True)


def _svhn(folder: Path) -> None:
    from torchvision.datasets import SVHN

    for split in ("train", "test"):
        SVHN(str(folder), split=split, download=True)


def _textures(folder: Path) -> None:
    from torchvision.datasets import DTD

    DTD(str(folder / "download"), download=True)
    (folder / "download" / "dtd" / "dtd" / "images").rename(folder / "test")
    shutil.rmtree(folder / "download")


_IMAGES = "into {name}/test/CLASS/*, {name}/* or {name}.npy"

CATALOG: tuple[DataSetEntry, ...] = (
    DataSetEntry("cifar10", "training and test, Sections 3 and 4", "--download cifar10 (170 MB)", _cifar10),
    DataSetEntry(
        "cifar100", "training and test, Section 3.3; OOD, Section 4.1", "--download cifar100 (170 MB)", _cifar100
    ),
    DataSetEntry(
        "cifar10-c",
        "corrupted test images, Section 3.2",
        "CIFAR-10-C's .npy files into {name}/, or --generate cifar10-c",
    ),
    DataSetEntry("svhn", "OOD, Section 4.1", "--download svhn (250 MB, test and train)", _svhn, only_ood=True),
    DataSetEntry("textures", "OOD, Section 4.1 (DTD)", "--download textures (600 MB)", _textures, only_ood=True),
    DataSetEntry("places365", "OOD, Section 4.1", f"validation images of Places365 {_IMAGES}", only_ood=True),
    DataSetEntry("lsun", "OOD, Section 4.1", f"test images of LSUN {_IMAGES}", only_ood=True),
    DataSetEntry(
        "tiny-imagenet",
        "outliers for Outlier Exposure; OOD beside the paper's",
        "Tiny ImageNet into {name}/train/CLASS/* and {name}/test/CLASS/*",
    ),
    DataSetEntry("scenes", "OOD beside the paper's", f"photographs of natural scenes {_IMAGES}", only_ood=True),
    DataSetEntry(
        "street-characters", "OOD beside the paper's", f"letters and digits on signs {_IMAGES}", only_ood=True
    ),
)


def describe(entry: DataSetEntry) -> str:
    """Return in words how to get a data set."""
    return entry.how.format(name=entry.name)


def download(root: Path, name: str) -> None:
    """Fetch data set ``name`` into ``root/name``, which appears only when it is complete.

    Raises DataError: not one we can fetch, there already (an empty folder is not), or the download failed.
    """
    entry = next((known for known in CATALOG if known.name == name), None)
    if entry is None or entry.download is None:
        known = ", ".join(known.name for known in CATALOG if known.download)
        raise DataError(f"cannot download {name!r}; can: {known}")
    if (root / name).exists() and not _is_empty_folder(root / name):
        raise DataError(f"{root / name} exists already; remove it to fetch the data set anew")
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=f".{name}-") as temporary:
        folder = Path(temporary) / name
        folder.mkdir()
        try:
            entry.download(folder)
        except (OSError, RuntimeError) as error:
            raise DataError(f"download of {name} failed: {error}") from error
        folder.rename(root / name)


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
