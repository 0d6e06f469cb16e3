"""The catalogue of data sets, and fetching one: whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving.images.fitting import Fitting
from tests.training.patterns import pattern
from tests.training.torchvision_files import write_cifar10
from training.data import catalog
from training.data.catalog import CATALOG, DataSetEntry, describe, download
from training.data.image_set import DataError
from training.data.sources import load_images
from training.recipe_files import all_recipes


def fetch(folder: Path) -> None:
    """Stands in for torchvision's download: its files of CIFAR-10, without the network."""
    pixels = np.stack([pattern(0, index) for index in range(5)])
    write_cifar10(folder, pixels, [0, 1, 2, 3, 4], pixels[:2])


def stop_half_way(error: Exception) -> Callable[[Path], None]:
    def fetch_half(folder: Path) -> None:
        (folder / "data_batch_1").write_bytes(b"half")
        raise error

    return fetch_half


@pytest.fixture
def with_fetch(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], None]], None]:
    """Have cifar10 fetched by another function than torchvision's."""

    def change(function: Callable[[Path], None]) -> None:
        entries = [replace(one, download=function) if one.name == "cifar10" else one for one in CATALOG]
        monkeypatch.setattr(catalog, "CATALOG", tuple(entries))

    return change


def test_names_are_unique_and_each_says_how_to_get_it() -> None:
    names = [entry.name for entry in CATALOG]
    assert len(set(names)) == len(names)
    for entry in CATALOG:
        said = describe(entry)
        if entry.download is None:
            assert f"{entry.name}/test/CLASS/*" in said or "--generate" in said
        else:
            assert said.startswith(f"--download {entry.name} (")


def test_the_papers_recipes_train_on_what_is_listed() -> None:
    papers = [recipe for recipe in all_recipes() if recipe.name.startswith("cifar10")]
    assert papers
    assert {recipe.data.name for recipe in papers} <= {entry.name for entry in CATALOG}


def test_the_out_of_distribution_sets_of_figure_5_are_listed() -> None:
    wanted = {name for recipe in all_recipes() if "figure-5" in recipe.targets for name in recipe.evaluation.ood}
    assert wanted >= {"textures", "svhn", "places365", "lsun", "cifar100"}
    assert wanted - {"gaussian", "rademacher", "blobs"} <= {entry.name for entry in CATALOG}


def test_a_download_appears_whole_in_the_root(
    tmp_path: Path, with_fetch: Callable[[Callable[[Path], None]], None]
) -> None:
    seen: list[list[str]] = []

    def watched(folder: Path) -> None:
        fetch(folder)
        seen.append([entry.name for entry in root.iterdir() if not entry.name.startswith(".")])

    root = tmp_path / "not" / "yet"
    with_fetch(watched)
    download(root, "cifar10")
    assert seen == [[]], "nothing under its name before it is complete"
    assert [entry.name for entry in root.iterdir()] == ["cifar10"]
    assert len(load_images(root, "cifar10", "train", Fitting(size=32, shorter_side=32))) == 5


@pytest.mark.parametrize("error", [OSError("no route to host"), RuntimeError("File not found or corrupted.")])
def test_a_download_that_fails_leaves_nothing(
    tmp_path: Path, with_fetch: Callable[[Callable[[Path], None]], None], error: Exception
) -> None:
    with_fetch(stop_half_way(error))
    with pytest.raises(DataError, match=f"download of cifar10 failed: {error}"):
        download(tmp_path, "cifar10")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_nothing(tmp_path: Path, with_fetch: Callable[[Callable[[Path], None]], None]) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "data_batch_1").write_bytes(b"half")
        raise KeyboardInterrupt

    with_fetch(interrupted)
    with pytest.raises(KeyboardInterrupt):
        download(tmp_path, "cifar10")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "data_batch_1").write_bytes(b"x")
    with pytest.raises(DataError, match="cifar10 exists already; remove it to fetch"):
        download(tmp_path, "cifar10")


def test_an_empty_folder_is_filled(tmp_path: Path, with_fetch: Callable[[Callable[[Path], None]], None]) -> None:
    (tmp_path / "cifar10").mkdir()
    with_fetch(fetch)
    download(tmp_path, "cifar10")
    assert len(load_images(tmp_path, "cifar10", "train", Fitting(size=32, shorter_side=32))) == 5


def test_sets_for_ood_alone_are_those_whose_purpose_is_no_other() -> None:
    assert {entry.name for entry in CATALOG if entry.only_ood} == {
        entry.name for entry in CATALOG if entry.purpose.startswith("OOD")
    }


@pytest.mark.parametrize("name", ["lsun", "photos", "../cifar10"])
def test_what_cannot_be_fetched_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"cannot download '{name}'; can: cifar10, cifar100, svhn, textures"):
        download(tmp_path / "data", name)
    assert not (tmp_path / "data").exists()


def test_an_entry_may_have_words_alone() -> None:
    entry = DataSetEntry("mine", "testing", "put it into {name}/")
    assert describe(entry) == "put it into mine/"
    assert entry.download is None
