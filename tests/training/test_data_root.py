"""What `quarterturn data` says of a root, against what training and evaluation would find there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from serving.images.fitting import Fitting
from tests.training.patterns import image_set, write_class_folders
from training.corruptions.catalog import CORRUPTIONS
from training.corruptions.generate import generate
from training.data.catalog import CATALOG, describe
from training.data.image_set import DataError
from training.data.ood import load_ood
from training.data_root import DataSetState, data_set_states

FITTING = Fitting(size=32, shorter_side=32)
HOW = {entry.name: describe(entry) for entry in CATALOG}


def states(root: Path) -> dict[str, DataSetState]:
    return {state.name: state for state in data_set_states(root)}


def there(root: Path, name: str) -> tuple[str, str]:
    state = states(root)[name]
    return state.there, state.how


def save_array(path: Path) -> None:
    np.save(path, image_set(per_class=2).pixels.read(0, 6))


def test_an_array_is_an_ood_set(tmp_path: Path) -> None:
    assert there(tmp_path, "lsun") == ("no", HOW["lsun"])
    assert load_ood(tmp_path, "lsun", FITTING, 2) is None
    save_array(tmp_path / "lsun.npy")
    assert there(tmp_path, "lsun") == ("for OOD: lsun.npy", "-")
    assert load_ood(tmp_path, "lsun", FITTING, 2) is not None


def test_an_array_goes_before_a_folder(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "lsun" / "test", per_class=1)
    assert there(tmp_path, "lsun") == ("yes", "-")
    save_array(tmp_path / "lsun.npy")
    assert there(tmp_path, "lsun") == ("yes; for OOD lsun.npy", "-")
    found = load_ood(tmp_path, "lsun", FITTING, 2)
    assert found is not None
    assert found.available == 6


def test_an_array_is_nothing_to_train_on(tmp_path: Path) -> None:
    save_array(tmp_path / "cifar100.npy")
    assert there(tmp_path, "cifar100") == ("for OOD: cifar100.npy", HOW["cifar100"])


def test_arrays_of_ones_own_are_listed(tmp_path: Path) -> None:
    save_array(tmp_path / "birds.npy")
    (tmp_path / ".half.npy").write_bytes(b"x")
    own = list(states(tmp_path).values())[len(CATALOG) :]
    assert own == [DataSetState("birds", "for OOD: birds.npy", "an OOD set of your own", "-")]
    assert load_ood(tmp_path, "birds", FITTING, 2) is not None


def test_a_folder_without_a_file_is_empty(tmp_path: Path) -> None:
    (tmp_path / "svhn").mkdir()
    (tmp_path / "cifar10-c").mkdir()
    (tmp_path / "scenes" / "test" / "sea").mkdir(parents=True)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / ".hidden").write_bytes(b"x")
    for name in ("svhn", "cifar10-c", "scenes"):
        assert there(tmp_path, name) == ("empty", HOW[name])
    assert there(tmp_path, "photos") == ("empty", "put images into it, or remove it")
    with pytest.raises(DataError, match="svhn is empty"):
        load_ood(tmp_path, "svhn", FITTING, 2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with 6 test images and, made of them in this process, cifar10-c, with or without frost."""
    root = tmp_path_factory.mktemp("data")
    for split in ("train", "test"):
        write_class_folders(root / "cifar10" / split, per_class=2)
    generate(root, processes=1)
    return root


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "data"))


@pytest.mark.usefixtures("no_photographs")
def test_corrupted_images_without_frost(copy: Path) -> None:
    set_made(copy, *(name for name in CORRUPTIONS if name != "frost"))
    assert there(copy, "cifar10-c") == (
        "generated, without frost",
        "pip install --no-deps imagecorruptions, then the same --generate",
    )


def test_corrupted_images_made_whole(copy: Path, photographs_installed: Path) -> None:
    generate(copy, processes=1)
    assert there(copy, "cifar10-c") == ("generated", "-")


def set_made(root: Path, *names: str) -> None:
    """Leave of the generated files what a call that was stopped leaves: ``names`` finished, the others not listed."""
    path = root / "cifar10-c" / "generated.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "made": list(names)}))


def test_corrupted_images_half_made(copy: Path) -> None:
    set_made(copy, "gaussian_noise", "shot_noise")
    assert there(copy, "cifar10-c") == ("generated, 2 of 19 corruptions", "the same --generate goes on")


def test_published_corrupted_images(copy: Path) -> None:
    folder = copy / "cifar10-c"
    (folder / "generated.json").unlink()
    shutil.copy(folder / "fog.npy", folder / "frost.npy")
    assert there(copy, "cifar10-c") == ("yes", "-")
    (folder / "snow.npy").unlink()
    (folder / "fog.npy").unlink()
    assert there(copy, "cifar10-c") == ("yes, without snow, fog", "the missing NAME.npy into cifar10-c/")
    (folder / "labels.npy").unlink()
    assert there(copy, "cifar10-c") == ("yes, without snow, fog, without labels.npy", "labels.npy into cifar10-c/")


def test_a_damaged_mark_is_said(copy: Path) -> None:
    (copy / "cifar10-c" / "generated.json").write_text("{")
    state, how = there(copy, "cifar10-c")
    assert state == "damaged"
    assert how.endswith(f"generated.json is damaged; remove {copy / 'cifar10-c'} and make it again")
