"""What the tests of the offline half share: data roots, and one thread for small tensors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.training.frost_files import write_photographs
from tests.training.patterns import write_class_folders
from tests.training.torchlib import build_torchlib_once
from training.corruptions.frost_photographs import PACKAGE, frost_photographs


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads only wait for each other on tensors this small, the more so on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def _one_torchlib() -> None:
    build_torchlib_once()


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with one data set, 'photos': class folders of 32-pixel images, 24 a class to train on, 8 to test."""
    return _root(tmp_path_factory, "photos", train=24, test=8)


@pytest.fixture(scope="session")
def small_cifar10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root whose 'cifar10' is made up: 20 images a class to train on, 4 to test."""
    return _root(tmp_path_factory, "cifar10", train=20, test=4)


@pytest.fixture(scope="session")
def large_data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root whose 'photos' are JPEG files of 300 pixels, 4 a class in each split."""
    return _root(tmp_path_factory, "photos", train=4, test=4, size=300, kind="jpg")


def _root(
    factory: pytest.TempPathFactory, name: str, *, train: int, test: int, size: int = 32, kind: str = "png"
) -> Path:
    """Write class folders, so many images a class in each split."""
    root = factory.mktemp("data")
    write_class_folders(root / name / "train", per_class=train, size=size, kind=kind)
    write_class_folders(root / name / "test", per_class=test, size=size, first=1000, kind=kind)
    return root


@pytest.fixture
def photographs_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The photographs' folder, on the import path for the time of a test."""
    write_photographs(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    frost_photographs.cache_clear()
    yield tmp_path / PACKAGE / "frost"
    frost_photographs.cache_clear()


@pytest.fixture
def no_photographs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No folder on the import path has the photographs."""
    without = [place for place in sys.path if not (Path(place) / PACKAGE).is_dir()]
    monkeypatch.setattr(sys, "path", without)
    frost_photographs.cache_clear()
    yield
    frost_photographs.cache_clear()


@pytest.fixture(autouse=True)
def _on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers are the same to the bit on a CPU alone; where there is a GPU, tests and what they start do without."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
