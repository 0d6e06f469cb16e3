"""Runs in phases: where each starts, that a run stopped anywhere ends with the same weights, and shared phases."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from training.labels.correction import class_probabilities, gold_estimate
from training.networks import build_network
from training.networks.start import WeightsError, start_from
from training.phase_plan import plan_phases, pretraining_recipe
from training.recipe import Recipe
from training.recipe_files import load_recipe
from training.run_folder import RunError, RunFolder
from training.shared_phases import SharedPhases, phase_digest
from training.trainer import train
from training.training_run import load_split, train_recipe, training_indices

SMALL = ["data.name=photos", "data.limit_per_class=12", "network.dropout=0.3", "labels.strength=0.6"]
TRUSTED = "labels.trusted=0.2"


def recipe_of(name: str, *overrides: str) -> Recipe:
    return load_recipe(name, "smoke", [*SMALL, *overrides])


GLC = ("cifar10-labels-glc10-rotations", TRUSTED, "optimiser.epochs=2", "pretraining.epochs=2")


def weights(run: RunFolder, phase: str = "") -> dict[str, Tensor]:
    found: dict[str, Tensor] = replace(run, phase=phase).load_checkpoint()["network"]
    return found


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def finished(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A GLC run with rotations, trained without a stop, its pre-training published."""
    folder = tmp_path_factory.mktemp("glc")
    run = RunFolder(folder / "run")
    outcome = train_recipe(recipe_of(*GLC), data_root, run, seed=4, shared=SharedPhases(folder / "shared"))
    assert outcome.finished
    return run


def test_the_plan_of_each_correction(data_root: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    plans = {}
    for name in ("none", "none-rotations", "glc10", "glc10-rotations", "forward", "forward-rotations"):
        recipe = recipe_of(f"cifar10-labels-{name}", *([TRUSTED] if "glc" in name else []))
        images = load_split(recipe, data_root, "train")
        phases, record = plan_phases(recipe, images, run)
        plans[name] = [(phase.name, phase.start) for phase in phases]
        assert record["labels"]["strength"] == 0.6
    pretraining = ("pretraining", None)
    assert plans == {
        "none": [("", None)],
        "none-rotations": [pretraining, ("", "pretraining")],
        "glc10": [("untrusted", None), ("", None)],
        "glc10-rotations": [pretraining, ("untrusted", "pretraining"), ("", "pretraining")],
        "forward": [("untrusted", None), ("", None)],
        "forward-rotations": [pretraining, ("untrusted", "pretraining"), ("", "pretraining")],
    }


def test_each_phase_has_its_images_and_labels(data_root: Path, tmp_path: Path) -> None:
    recipe = recipe_of(*GLC)
    images = load_split(recipe, data_root, "train")
    phases, record = plan_phases(recipe, images, RunFolder(tmp_path))
    pretraining, untrusted, last = phases
    labels, trusted = last.images.labels.T
    assert trusted.sum() == record["labels"]["trusted"] == 9, "3 of 12 a class"
    assert np.array_equal(labels[trusted == 1], images.labels[trusted == 1])
    assert (labels[trusted == 0] != images.labels[trusted == 0]).mean() == record["labels"]["changed"] > 0.1
    assert np.array_equal(untrusted.images.labels, labels[trusted == 0])
    read = untrusted.images.pixels.read(0, len(untrusted.images))
    assert np.array_equal(read, images.pixels.read(0, len(images))[trusted == 0])
    assert len(pretraining.images) == len(last.images) == len(images)
    assert recipe.pretraining is not None
    assert pretraining.recipe.optimiser == recipe.pretraining
    assert pretraining.recipe.objective.kind == "rotations"


def test_the_folder_holds_every_phase_and_says_what_was_done(finished: RunFolder, data_root: Path) -> None:
    assert {path.name for path in finished.path.iterdir()} == {
        "checkpoint-pretraining.pt",
        "checkpoint-untrusted.pt",
        "checkpoint.pt",
        "metrics-pretraining.jsonl",
        "metrics-untrusted.jsonl",
        "metrics.jsonl",
        "corruption.json",
        "environment.json",
        "recipe.json",
        "training.json",
    }
    record = finished.training_record()
    checkpoint = finished.load_checkpoint()
    assert record["finished"] is True
    assert record["step"] == record["steps"] == checkpoint["step"]
    assert [phase["name"] for phase in record["phases"]] == ["pretraining", "untrusted", "last"]
    assert [phase["images"] for phase in record["phases"]] == [27, 21, 27], "9 a class, of which 2 are trusted"
    assert [phase["steps"] for phase in record["phases"]] == [2, 2, 2], "2 epochs of one batch of 16"
    views = sum(replace(finished, phase=name).load_checkpoint()["views"] for name in ("pretraining", "untrusted", ""))
    assert record["views"] == views
    assert record["labels"]["strength"] == 0.6
    heads = {name.split(".")[2] for name in weights(finished, "pretraining") if name.startswith("heads.")}
    assert heads == {"rotation"}


def test_the_estimate_is_that_of_the_network_trained_on_untrusted_labels(finished: RunFolder, data_root: Path) -> None:
    recipe = finished.recipe()
    images = load_split(recipe, data_root, "train")
    images = images.take(training_indices(recipe, images)[0])
    phases, _ = plan_phases(recipe, images, finished)
    trusted = np.flatnonzero(phases[-1].images.labels[:, 1])
    network = build_network(recipe.network, {"label": 3, "rotation": 4})
    network.load_state_dict(weights(finished, "untrusted"))
    found = class_probabilities(network, images.take(trusted), torch.device("cpu"))
    recorded = json.loads((finished.path / "corruption.json").read_text())
    np.testing.assert_allclose(recorded["estimate"], gold_estimate(found, images.labels[trusted]), atol=2e-6)
    np.testing.assert_allclose(np.sum(recorded["estimate"], axis=1), 1, atol=1e-5)


def test_a_run_stopped_after_every_step_ends_with_the_same_weights(
    finished: RunFolder, data_root: Path, tmp_path: Path
) -> None:
    run, calls = RunFolder(tmp_path / "run"), 0
    while True:
        outcome = train_recipe(recipe_of(*GLC), data_root, run, seed=4, resume=True, max_minutes=0.0)
        calls += 1
        if outcome.finished:
            break
        assert run.training_record().get("finished", False) is False
    phases = run.training_record()["phases"]
    assert calls == sum(phase["steps"] for phase in phases) == 6
    for phase in ("pretraining", "untrusted", ""):
        assert_same(weights(run, phase), weights(finished, phase))
    assert run.training_record()["views"] == finished.training_record()["views"]


def test_a_shared_pretraining_gives_the_weights_of_ones_own(
    finished: RunFolder, data_root: Path, tmp_path: Path
) -> None:
    folder = finished.path.parent / "shared"
    [published] = folder.iterdir()
    before = published.stat().st_mtime_ns
    run = RunFolder(tmp_path / "run")
    train_recipe(recipe_of(*GLC), data_root, run, seed=4, shared=SharedPhases(folder))
    assert not (run.path / "metrics-pretraining.jsonl").exists(), "it did not train the phase itself"
    assert_same(weights(run), weights(finished))
    assert run.training_record()["views"] == finished.training_record()["views"]
    other = RunFolder(tmp_path / "other")
    train_recipe(recipe_of(*GLC), data_root, other, seed=5, shared=SharedPhases(folder), max_minutes=0.0)
    assert (other.path / "metrics-pretraining.jsonl").exists(), "another seed shares nothing"
    assert published.stat().st_mtime_ns == before
    assert list(folder.iterdir()) == [published], "a phase that is not finished is not published"


def test_what_decides_a_pretraining(data_root: Path) -> None:
    images = load_split(recipe_of(*GLC), data_root, "train")

    def digest(name: str, *overrides: str) -> str:
        trusted = [TRUSTED] if "glc" in name else []
        return phase_digest(pretraining_recipe(recipe_of(name, *trusted, *overrides)), images, seed=0)

    alike = {
        digest(name, *overrides)
        for name in (
            "cifar10-labels-none-rotations",
            "cifar10-labels-glc5-rotations",
            "cifar10-labels-forward-rotations",
        )
        for overrides in ([], ["labels.strength=0.1"], ["trainer.log_every=7"], ["optimiser.epochs=3"])
    }
    assert len(alike) == 1
    name = "cifar10-labels-none-rotations"
    for change in ("pretraining.epochs=2", "network.width=2", "calibration.seed=1", "augmentation.flip=false"):
        assert digest(name, change) not in alike


def test_rotation_rows_start_from_the_pretraining(finished: RunFolder, data_root: Path, tmp_path: Path) -> None:
    """With a rate of next to nothing the last phase keeps the pre-training's weights, and draws its own label head."""
    still = ["optimiser.lr=1e-30", "optimiser.lr_end=0.0", "optimiser.weight_decay=0.0"]
    run = RunFolder(tmp_path / "run")
    train_recipe(recipe_of("cifar10-labels-none-rotations", *still), data_root, run, seed=4)
    before, after = weights(run, "pretraining"), weights(run)
    learned = [name for name in before if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(before[name], after[name]) for name in learned)
    assert set(after) - set(before) == {"heads.linear.label.weight", "heads.linear.label.bias"}


def test_another_recipe_seed_or_strength_is_refused_in_every_phase(data_root: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    train_recipe(recipe_of(*GLC), data_root, run, seed=4, max_minutes=0.0)
    assert not run.checkpoint_path.exists(), "it stopped in the pre-training"
    with pytest.raises(RunError, match="holds a run already"):
        train_recipe(recipe_of(*GLC), data_root, run, seed=4)
    with pytest.raises(RunError, match=r"labels\.strength"):
        train_recipe(recipe_of(*GLC, "labels.strength=0.5"), data_root, run, seed=4, resume=True)
    with pytest.raises(RunError, match="--seed"):
        train_recipe(recipe_of(*GLC), data_root, run, seed=5, resume=True)


def test_a_recipe_of_one_phase_is_trained_as_ever(data_root: Path, tmp_path: Path) -> None:
    recipe = load_recipe("own-classifier-32", "smoke", SMALL[1:3])
    whole = RunFolder(tmp_path / "whole")
    train_recipe(recipe, data_root, whole, seed=2)
    images = load_split(recipe, data_root, "train")
    alone = RunFolder(tmp_path / "alone")
    train(recipe, images.take(training_indices(recipe, images)[0]), alone, seed=2)
    assert_same(weights(whole), weights(alone))
    names = {path.name for path in whole.path.iterdir()}
    assert names == {"checkpoint.pt", "environment.json", "metrics.jsonl", "recipe.json", "training.json"}
    assert not whole.training_record().keys() & {"phases", "labels"}


def test_corrupted_labels_are_trained_on(data_root: Path, tmp_path: Path) -> None:
    found = {}
    for strength in ("0.0", "0.6"):
        run = RunFolder(tmp_path / strength)
        recipe = recipe_of("cifar10-labels-none", f"labels.strength={strength}")
        train_recipe(recipe, data_root, run, seed=2)
        found[strength] = run
    clean = load_recipe("cifar10-labels-none", "smoke", SMALL[:3]).model_copy(update={"labels": None})
    run = RunFolder(tmp_path / "clean")
    train_recipe(clean, data_root, run, seed=2)
    assert_same(weights(found["0.0"]), weights(run))
    assert not torch.equal(weights(found["0.6"])["conv1.weight"], weights(run)["conv1.weight"])
    assert found["0.0"].training_record()["labels"]["changed"] == 0


def test_starting_from_other_heads_keeps_ones_own() -> None:
    settings = load_recipe("cifar10-labels-none", "smoke").network
    source, target = (build_network(settings, heads) for heads in ({"rotation": 4}, {"label": 3, "rotation": 4}))
    own = {name: value.clone() for name, value in target.state_dict().items()}
    start_from(target, source.state_dict())
    found = target.state_dict()
    for name, value in found.items():
        expected = own[name] if ".label." in name else source.state_dict()[name]
        assert torch.equal(value, expected), name


def test_another_network_is_refused_and_named() -> None:
    heads = {"rotation": 4}
    wide = load_recipe("cifar10-labels-none", "smoke", ["network.width=2"]).network
    deep = load_recipe("cifar10-labels-none", "smoke", ["network.depth=16"]).network
    target = build_network(load_recipe("cifar10-labels-none", "smoke").network, heads)
    for settings, said in ((wide, "bn.weight"), (deep, "blocks.5")):
        with pytest.raises(WeightsError, match=said):
            start_from(target, build_network(settings, heads).state_dict())
