"""CIFAR-10-C's layout, made and read, and a classifier's accuracy on it."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from typer import Typer
from typer.testing import CliRunner

from tests.training.runs import make_data_root, make_run
from training.commands import add_commands
from training.corruptions import generate as making
from training.corruptions.catalog import CORRUPTIONS, SEVERITIES, TEST
from training.corruptions.evaluation import corrupted_test_images, evaluate_corruptions
from training.corruptions.generate import CHUNK, corrupt, generate
from training.corruptions.in_words import corruption_lines
from training.corruptions.layout import open_corrupted_images
from training.data.image_set import DataError
from training.evaluation import evaluate_run
from training.evaluation_table import print_evaluation
from training.recipe_files import RecipeError, load_recipe
from training.recipe_tables.corruptions import CorruptionSettings
from training.run_folder import RunFolder, load_network
from training.scorer import build_scorer
from training.training_run import load_split

RECIPE = "cifar10-robustness-rotations"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with 24 test images of three classes and, made of them in this process, cifar10-c."""
    root = make_data_root(tmp_path_factory.mktemp("data"))
    generate(root, seed=7, processes=1)
    return root


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """The same data root, to be spoilt."""
    return Path(shutil.copytree(root, tmp_path / "data"))


def clean(root: Path) -> Any:
    return load_split(load_recipe(RECIPE, "smoke"), root, "test")


def write_published(folder: Path, images: Any, names: list[str]) -> None:
    """Write files as they are published: uint8 labels, no mark; the images as they are, five times."""
    folder.mkdir(exist_ok=True)
    for name in names:
        np.save(folder / f"{name}.npy", np.concatenate([images.pixels.read(0, len(images))] * 5))
    np.save(folder / "labels.npy", np.tile(images.labels.astype(np.uint8), 5))


def test_what_is_made_is_the_published_layout(root: Path) -> None:
    images = clean(root)
    labels = np.load(root / "cifar10-c" / "labels.npy")
    assert labels.dtype == np.uint8
    assert labels.tolist() == images.labels.tolist() * 5
    for name in ("gaussian_noise", "spatter"):
        stored = np.load(root / "cifar10-c" / f"{name}.npy")
        assert (stored.dtype, stored.shape) == (np.uint8, (5 * 24, 32, 32, 3))
        for severity in SEVERITIES:
            part = stored[(severity - 1) * 24 : severity * 24]
            assert np.array_equal(part, corrupt(images.pixels.read(0, 24), name, severity, seed=7))


def test_the_mark_says_what_was_made_of_what(root: Path) -> None:
    mark = json.loads((root / "cifar10-c" / "generated.json").read_text())
    images = clean(root)
    assert (mark["generator"], mark["version"], mark["seed"]) == ("quarterturn", 1, 7)
    assert mark["source"] == {
        "data": "cifar10",
        "split": "test",
        "digest": images.digest,
        "available": 24,
        "count": 24,
        "classes": ["cat", "dog", "horse"],
    }
    assert set(mark["made"]) | set(mark["missing"]) == set(CORRUPTIONS)
    assert set(mark["missing"]) <= {"frost"}


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(root: Path, tmp_path: Path) -> None:
    (tmp_path / "cifar10").symlink_to(root / "cifar10")
    generate(tmp_path, seed=7, processes=2)
    for path in (root / "cifar10-c").iterdir():
        assert (tmp_path / "cifar10-c" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.slow
def test_a_killed_process_is_said_and_finished_files_are_kept(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once two corruptions are written, one of the processes is killed, as the system does when memory runs out."""
    (tmp_path / "cifar10").symlink_to(root / "cifar10")
    folder, write = tmp_path / "cifar10-c", making._write

    def write_then_kill(*arguments: Any) -> None:
        write(*arguments)
        if (folder / "shot_noise.npy").exists():
            process = multiprocessing.active_children()[0]
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()

    with monkeypatch.context() as patch:
        patch.setattr(making, "_write", write_then_kill)
        with pytest.raises(DataError, match=r"one of the 2 processes .* was killed or crashed.*files are kept"):
            generate(tmp_path, seed=7, processes=2)
    assert json.loads((folder / "generated.json").read_text())["made"] == ["gaussian_noise", "shot_noise"]
    kept = (folder / "shot_noise.npy").stat().st_mtime_ns
    assert generate(tmp_path, seed=7, processes=1)["made"][:3] == ["gaussian_noise", "shot_noise", "impulse_noise"]
    assert (folder / "shot_noise.npy").stat().st_mtime_ns == kept


def test_each_chunk_of_images_draws_its_own() -> None:
    same = np.full((2, CHUNK, 32, 32, 3), 128, np.uint8)
    first, second = (corrupt(same[chunk], "gaussian_noise", 1, 0, chunk) for chunk in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.usefixtures("no_photographs")
def test_it_goes_on_where_it_was_and_adds_frost_when_it_can(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy / "cifar10-c"
    whole = (folder / "fog.npy").read_bytes()
    mark = json.loads((folder / "generated.json").read_text())
    mark["made"] = [name for name in mark["made"] if name not in ("fog", "contrast", "frost")]
    (folder / "generated.json").write_text(json.dumps(mark))  # as a kill between two files leaves it
    (folder / "fog.npy").write_bytes(whole[:1000])
    (folder / "contrast.npy").unlink()
    (folder / ".snow.npy.99.tmp").write_bytes(b"half")
    untouched = (folder / "snow.npy").stat().st_mtime_ns
    again = generate(copy, seed=7, processes=1)
    assert (folder / "fog.npy").read_bytes() == whole
    assert (folder / "snow.npy").stat().st_mtime_ns == untouched
    assert not list(folder.glob(".*"))
    assert set(again["missing"]) == {"frost"}
    assert again["made"] == [name for name in CORRUPTIONS if name != "frost"]
    assert "left out: frost" in capsys.readouterr().err


def test_frost_is_made_once_its_photographs_are_there(copy: Path, photographs_installed: Path) -> None:
    mark = generate(copy, seed=7, processes=1)
    assert mark["missing"] == {}
    assert (copy / "cifar10-c" / "frost.npy").is_file()


def test_a_limit_takes_of_each_class_its_share(copy: Path) -> None:
    shutil.rmtree(copy / "cifar10-c")
    mark = generate(copy, seed=1, limit=6, processes=1)
    assert (mark["source"]["count"], mark["source"]["available"]) == (6, 24)
    assert np.load(copy / "cifar10-c" / "labels.npy").tolist() == [0, 0, 1, 1, 2, 2] * 5


def test_other_files_are_not_mixed_with_its_own(copy: Path) -> None:
    with pytest.raises(DataError, match=r"made otherwise \(seed differ\)"):
        generate(copy, seed=8, processes=1)
    with pytest.raises(DataError, match=r"made otherwise \(source differ\)"):
        generate(copy, seed=7, limit=6, processes=1)
    (copy / "cifar10-c" / "generated.json").unlink()
    with pytest.raises(DataError, match="not made here"):
        generate(copy, seed=7, processes=1)


def test_published_files_load_as_they_are(copy: Path) -> None:
    folder, images = copy / "cifar10-c", clean(copy)
    shutil.rmtree(folder)
    assert open_corrupted_images(folder, 32, 3) is None
    write_published(folder, images, ["fog", "saturate"])
    found = open_corrupted_images(folder, 32, 3)
    assert found is not None
    assert (found.there, found.mark) == (("fog", "saturate"), None)
    assert len(found.missing) == 17
    assert np.array_equal(found.labels, images.labels)
    assert np.array_equal(found.images("fog", 5), images.pixels.read(0, 24))


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("labels", np.zeros(119, np.uint8), "whole number of labels"),
        ("labels", np.arange(120, dtype=np.uint8) % 3, None),
        ("labels", np.repeat(np.arange(3, dtype=np.uint8), 40), "same labels for each of the 5"),
        ("labels", np.full(120, 3, np.uint8), "outside 0 .. 2"),
        ("labels", np.zeros(120), "float64"),
        ("labels", np.zeros(100, np.uint8), "fog.npy holds uint8 .120, 32, 32, 3.*must hold uint8 .100, 32, 32, 3"),
        ("fog", np.zeros((120, 32, 32), np.uint8), "fog.npy holds uint8 .120, 32, 32.;"),
        ("fog", np.zeros((120, 32, 32, 3), np.float32), "float32"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(
    copy: Path, name: str, array: np.ndarray[Any, Any], said: str | None
) -> None:
    folder = copy / "cifar10-c"
    shutil.rmtree(folder)
    write_published(folder, clean(copy), ["fog"])
    np.save(folder / f"{name}.npy", array)
    if said is None:
        assert open_corrupted_images(folder, 32, 3) is not None
        return
    with pytest.raises(DataError, match=said):
        open_corrupted_images(folder, 32, 3)


def test_damaged_and_missing_files_are_named(copy: Path) -> None:
    folder = copy / "cifar10-c"
    (folder / "fog.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match=r"fog\.npy is no \.npy file of an array"):
        open_corrupted_images(folder, 32, 3)
    (folder / "generated.json").write_text("{")
    with pytest.raises(DataError, match=r"generated\.json is damaged"):
        open_corrupted_images(folder, 32, 3)
    (folder / "generated.json").unlink()
    (folder / "labels.npy").unlink()
    with pytest.raises(DataError, match=r"labels\.npy is missing"):
        open_corrupted_images(folder, 32, 3)


@pytest.fixture(scope="module")
def evaluated(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, dict[str, Any]]:
    run = make_run(tmp_path_factory.mktemp("run"), root, RECIPE, "evaluation.corruptions.limit=0")
    return run, evaluate_run(run, root, device="cpu")


def test_accuracy_is_the_networks_on_each_severity(evaluated: tuple[RunFolder, dict[str, Any]], root: Path) -> None:
    run, evaluation = evaluated
    section = evaluation["corruptions"]
    assert (section["data"], section["origin"], section["count"], section["available"]) == (
        "cifar10-c",
        "generated",
        24,
        24,
    )
    assert section["generated"]["seed"] == 7
    assert section["generated"]["source"]["digest"] == evaluation["in_distribution"]["digest"]
    scorer, labels = build_scorer(*load_network(run)), clean(root).labels
    for name in ("snow", "speckle_noise"):
        stored = np.load(root / "cifar10-c" / f"{name}.npy")
        with torch.inference_mode():
            predicted = scorer(torch.from_numpy(stored))["probabilities"].numpy().argmax(axis=1)
        expected = (predicted.reshape(5, 24) == labels).mean(axis=1)
        assert section["accuracy"][name]["severities"] == pytest.approx(expected.tolist())
        assert section["accuracy"][name]["mean"] == pytest.approx(expected.mean())


def test_means_are_over_those_there_and_stand_beside_the_papers(
    evaluated: tuple[RunFolder, dict[str, Any]],
) -> None:
    _, evaluation = evaluated
    section = evaluation["corruptions"]
    means = {name: found["mean"] for name, found in section["accuracy"].items()}
    assert set(means) | set(section["missing"]) == set(CORRUPTIONS)
    assert section["accuracy_mean"] == pytest.approx(sum(means.values()) / len(means))
    tests = [value for name, value in means.items() if name in TEST]
    assert section["accuracy_mean_test"] == pytest.approx(sum(tests) / len(tests))
    figures = {row["metric"]: row for row in evaluation["published"]}
    row = figures["accuracy_corruptions_mean"]
    assert (row["published_percent"], figures["accuracy"]["published_percent"]) == (76.9, 95.5)
    assert row["measured_percent"] == pytest.approx(100 * section["accuracy_mean"], abs=0.01)
    assert evaluation["ood"] == evaluation["ood_mean"] == {}


def test_the_table_says_that_they_were_generated(evaluated: tuple[RunFolder, dict[str, Any]]) -> None:
    _, evaluation = evaluated
    stream = io.StringIO()
    print_evaluation(evaluation, Console(file=stream, width=500))
    shown = stream.getvalue()
    section = evaluation["corruptions"]
    assert f"of 19 corruptions {100 * section['accuracy_mean']:.1f} %" in shown
    assert "generated by this project, not the published files" in shown
    assert f"glass_blur {100 * section['accuracy']['glass_blur']['mean']:.1f} %" in shown


def test_a_limit_takes_the_same_images_each_time(
    evaluated: tuple[RunFolder, dict[str, Any]], root: Path, tmp_path: Path
) -> None:
    write_published(tmp_path / "cifar10-c", clean(root), ["fog", "frost", "saturate"])
    settings = CorruptionSettings(data="cifar10-c", limit=6)
    corrupted = corrupted_test_images(settings, tmp_path, clean(root), 32)
    section = evaluate_corruptions(load_network(evaluated[0])[0], settings, corrupted, 32, "cpu")
    assert (section["origin"], section["generated"], section["count"]) == ("published", None, 6)
    found = {value for row in section["accuracy"].values() for value in row["severities"]}
    assert len(found) == 1  # the same pixels everywhere
    assert len(section["missing"]) == 16


def test_a_data_root_without_corrupted_images_is_said_to_be_one(
    evaluated: tuple[RunFolder, dict[str, Any]], root: Path, tmp_path: Path
) -> None:
    settings = CorruptionSettings(data="cifar10-c", limit=0)
    assert corrupted_test_images(settings, tmp_path, clean(root), 32) is None
    section = evaluate_corruptions(load_network(evaluated[0])[0], settings, None, 32, "cpu")
    assert section["missing"] == list(CORRUPTIONS)
    assert section["accuracy"] == {}
    assert section["accuracy_mean"] is section["accuracy_mean_test"] is section["origin"] is None
    assert "`quarterturn data --generate cifar10-c` makes them" in corruption_lines({"corruptions": section})[0]


def test_images_of_other_classes_or_labels_are_refused_before_anything_is_scored(copy: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", copy, "cifar10-robustness-normal")
    folder = copy / "cifar10-c"
    np.save(folder / "labels.npy", np.tile(np.roll(clean(copy).labels, 1).astype(np.uint8), 5))
    with pytest.raises(DataError, match="not those of the images it was made of"):
        evaluate_run(run, copy, device="cpu")
    mark = json.loads((folder / "generated.json").read_text())
    mark["source"]["classes"] = ["ant", "bee", "cat"]
    (folder / "generated.json").write_text(json.dumps(mark))
    with pytest.raises(DataError, match="other classes"):
        evaluate_run(run, copy, device="cpu")


def test_only_classifiers_are_judged_on_corruptions() -> None:
    with pytest.raises(RecipeError, match=r"'evaluation\.corruptions' is for classifiers"):
        load_recipe(
            "cifar10-transformations",
            overrides=['evaluation.corruptions.data="cifar10-c"', "evaluation.corruptions.limit=0"],
        )


def test_the_command_makes_them_and_names_what_it_cannot(root: Path, tmp_path: Path) -> None:
    (tmp_path / "cifar10").symlink_to(root / "cifar10")
    shutil.copytree(root / "cifar10-c", tmp_path / "cifar10-c")
    app = Typer()
    add_commands(app)
    arguments = ["data", "--root", str(tmp_path), "--generate"]
    done = CliRunner().invoke(app, [*arguments, "cifar10-c", "--seed", "7"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "corruptions of 24 images of cifar10" in done.output
    refused = CliRunner().invoke(app, [*arguments, "imagenet-c"])
    assert isinstance(refused.exception, DataError)
    assert "can: cifar10-c" in str(refused.exception)
