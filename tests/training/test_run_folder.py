"""The run folder: what is written is read back, and what is not a run's is refused by name."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from tests.training.checkpoints import disk_full_at
from tests.training.command_line import contents
from training.networks import build_network
from training.recipe import Recipe
from training.recipe_files import load_recipe
from training.run_folder import (
    RunError,
    RunFolder,
    check_same_recipe,
    flat_settings,
    heads_of,
    load_network,
    settings_that_differ,
    weights_digest,
)

CLASSES = ["arrow", "corner", "ramp"]
ENVIRONMENT = {"libraries": {"torch": "2.0"}, "source_revision": "abc", "seed": 7, "data_root": "data"}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe("own-classifier-32", "smoke")


@pytest.fixture
def run(tmp_path: Path, recipe: Recipe) -> RunFolder:
    """A run of step 3 with random weights."""
    run = RunFolder(tmp_path / "runs" / "one")
    run.write_json("recipe.json", recipe.settings())
    run.write_json("environment.json", ENVIRONMENT)
    run.write_json("training.json", {"classes": CLASSES})
    torch.manual_seed(0)
    network = build_network(recipe.network, heads_of(recipe, len(CLASSES)))
    run.save_checkpoint(
        {"network": network.state_dict(), "step": 3, "seed": 7, "recipe": json.dumps(recipe.settings())}
    )
    return run


def test_what_is_written_is_read_back(run: RunFolder, recipe: Recipe) -> None:
    assert run.recipe() == recipe
    assert run.environment() == ENVIRONMENT
    assert run.training_record() == {"classes": CLASSES}
    checkpoint = run.load_checkpoint()
    assert (checkpoint["step"], checkpoint["seed"]) == (3, 7)
    assert sorted(contents(run.path)) == ["checkpoint.pt", "environment.json", "recipe.json", "training.json"]


def test_the_network_is_the_checkpoints_and_ready_to_score(run: RunFolder, recipe: Recipe) -> None:
    network, of_run = load_network(run)
    assert of_run == recipe
    assert not network.training
    saved = run.load_checkpoint()["network"]
    assert all(torch.equal(value, saved[name]) for name, value in network.state_dict().items())
    logits = network(torch.zeros(2, 3, 32, 32))
    assert {head: values.shape for head, values in logits.items()} == {"label": (2, 3), "rotation": (2, 4)}


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run folder: it has no recipe.json"):
        RunFolder(tmp_path).recipe()
    with pytest.raises(RunError, match="has no checkpoint yet"):
        RunFolder(tmp_path).load_checkpoint()


@pytest.mark.parametrize("content", ["", "{", "\x00\x00"])
def test_damaged_json_is_named(run: RunFolder, content: str) -> None:
    (run.path / "recipe.json").write_text(content)
    with pytest.raises(RunError, match=r"recipe.json is damaged"):
        run.recipe()


@pytest.mark.parametrize("content", ["[]", "3", "null", '"text"'])
def test_json_that_is_no_table_is_damaged(run: RunFolder, content: str) -> None:
    for name, read in (
        ("recipe.json", run.recipe),
        ("training.json", run.training_record),
        ("environment.json", run.environment),
    ):
        (run.path / name).write_text(content)
        with pytest.raises(RunError, match=rf"{name} is damaged: it holds no table"):
            read()


def test_what_a_table_lacks_is_named(run: RunFolder) -> None:
    run.write_json("environment.json", {"seed": 7, "source_revision": "abc"})
    with pytest.raises(RunError, match=r"environment\.json is damaged: it says no libraries, data_root"):
        run.environment()
    run.write_json("training.json", {"step": 3})
    with pytest.raises(RunError, match=r"training\.json is damaged: it says no classes"):
        load_network(run)


def test_a_recipe_of_another_version_is_named(run: RunFolder, recipe: Recipe) -> None:
    run.write_json("recipe.json", {**recipe.settings(), "colour": "red"})
    with pytest.raises(RunError, match=r"recipe.json is no recipe of this version: (.|\n)*colour"):
        run.recipe()


def test_a_checkpoint_cut_short_is_damaged(run: RunFolder) -> None:
    data = run.checkpoint_path.read_bytes()
    for kept in (b"", data[: len(data) // 2], b"junk" * 100):
        run.checkpoint_path.write_bytes(kept)
        with pytest.raises(RunError, match=r"checkpoint.pt is damaged"):
            run.load_checkpoint()


def test_a_checkpoint_runs_no_code(run: RunFolder, tmp_path: Path) -> None:
    """torch.load without weights_only would make the file."""

    class Harm:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (tmp_path / "harm",)

    run.save_checkpoint({"network": Harm()})
    with pytest.raises(RunError, match=r"checkpoint.pt is damaged"):
        run.load_checkpoint()
    assert not (tmp_path / "harm").exists()


def test_a_checkpoint_of_another_format_is_refused(run: RunFolder) -> None:
    torch.save({"format": 2, "step": 3}, run.checkpoint_path)
    with pytest.raises(RunError, match="has checkpoint format 2, not 1"):
        run.load_checkpoint()
    torch.save([1, 2], run.checkpoint_path)
    with pytest.raises(RunError, match="has checkpoint format None"):
        run.load_checkpoint()


def test_a_network_of_other_classes_or_another_recipe_is_refused(run: RunFolder, recipe: Recipe) -> None:
    run.write_json("training.json", {"classes": [*CLASSES, "more"]})
    with pytest.raises(RunError, match=r"does not fit the classes in training.json"):
        load_network(run)
    run.write_json("training.json", {"classes": CLASSES})
    wider = load_recipe("own-classifier-32", "smoke", ["network.width=2"])
    run.write_json("recipe.json", wider.settings())
    with pytest.raises(RunError, match=r"these differ: network.width \(1 there, 2 here\)"):
        load_network(run)


def test_what_is_no_number_is_not_written(run: RunFolder) -> None:
    before = contents(run.path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.write_json("training.json", {"loss": math.nan})
    assert contents(run.path) == before


def test_on_a_full_disk_every_file_stays(run: RunFolder) -> None:
    before = contents(run.path)
    with disk_full_at(100):
        with pytest.raises(RunError, match=r"could not write .*checkpoint.pt: File too large; what was there is int"):
            run.save_checkpoint({"network": torch.zeros(1000)})
        with pytest.raises(RunError, match=r"could not write .*recipe.json: File too large"):
            run.write_json("recipe.json", {"long": "x" * 1000})
        with pytest.raises(RunError, match=r"could not write .*metrics.jsonl: File too large"):
            run.append_metrics("x" * 1000)
    (run.path / "metrics.jsonl").unlink()
    assert contents(run.path) == before


def test_a_place_that_cannot_be_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    run = RunFolder(tmp_path / "file" / "run")
    with pytest.raises(RunError, match=r"could not write .*file/run: Not a directory"):
        run.begin(0)
    with pytest.raises(RunError, match=r"could not write .*recipe.json: Not a directory"):
        run.write_json("recipe.json", {})


def test_a_run_begins_without_what_a_killed_process_left(run: RunFolder) -> None:
    before = contents(run.path)
    for step in (1, 2, 3, 4):
        run.append_metrics(json.dumps({"step": step}))
    with run.metrics_path.open("a") as log:
        log.write('{"step": 5, "lo')
    (run.path / ".training.json.123.tmp").write_text("{")
    run.begin(2)
    assert run.metrics_path.read_text() == '{"step": 1}\n{"step": 2}\n'
    run.append_metrics("{}")
    assert run.metrics_path.read_text() == '{"step": 1}\n{"step": 2}\n{}\n'
    run.metrics_path.unlink()
    assert contents(run.path) == before


def test_a_run_that_begins_anew_has_no_evaluation_of_the_one_before(run: RunFolder) -> None:
    run.write_json("evaluation.json", {"seed": 7})
    run.begin(2)
    assert (run.path / "evaluation.json").exists()
    run.begin(0)
    assert not (run.path / "evaluation.json").exists()


def test_a_digest_is_of_the_weights_and_not_of_how_they_lie() -> None:
    weights = {"a": torch.arange(24.0).reshape(1, 2, 3, 4), "b": torch.tensor(3)}
    digest = weights_digest(weights)
    assert digest == weights_digest({**weights, "a": weights["a"].to(memory_format=torch.channels_last)})
    for other in (
        {**weights, "b": torch.tensor(4)},
        {**weights, "a": weights["a"].reshape(2, 12)},
        {"a": weights["a"]},
    ):
        assert weights_digest(other) != digest


def test_the_same_recipe_passes_and_trainer_settings_may_differ(run: RunFolder, recipe: Recipe) -> None:
    checkpoint = run.load_checkpoint()
    check_same_recipe(checkpoint, recipe, 7)
    check_same_recipe(checkpoint, recipe)
    for change in ("trainer.log_every=9", "trainer.checkpoint_minutes=1", "evaluation.limit=5", "row=x"):
        check_same_recipe(checkpoint, load_recipe("own-classifier-32", "smoke", [change]), 7)


def test_another_precision_is_another_training() -> None:
    auto, full, mixed = (
        load_recipe("own-classifier-32", "smoke", [f"trainer.precision={named}"]).settings()
        for named in ("auto", "32-true", "bf16-mixed")
    )
    assert settings_that_differ(full, mixed) == ["trainer.precision (32-true there, bf16-mixed here)"]
    assert settings_that_differ(auto, mixed) == [], "what it meant depends on the device, which settings do not say"


def test_every_difference_is_named(run: RunFolder) -> None:
    other = load_recipe("own-one-class-32", "smoke", ["data.in_class=ramp", "optimiser.epochs=2"])
    with pytest.raises(RunError) as refused:
        check_same_recipe(run.load_checkpoint(), other, 8)
    said = str(refused.value)
    for difference in (
        "name (own-classifier-32 there, own-one-class-32 here)",
        "data.in_class (None there, ramp here)",
        "objective.order (not set there, rotate_translate here)",
        "objective.rotation_weight (0.5 there, not set here)",
        "optimiser.epochs (1 there, 2 here)",
        "--seed (7 there, 8 here)",
    ):
        assert difference in said


def test_settings_are_named_as_on_the_command_line() -> None:
    nested = {"a": {"b": {"c": 1}, "d": [2, {"e": 3}]}, "f": None}
    assert flat_settings(nested) == {"a.b.c": 1, "a.d": [2, {"e": 3}], "f": None}
