"""The trainer: it learns, stops where it is asked to, and goes on to the very weights of an uninterrupted run.

``python -m tests.training.test_trainer`` writes tests/golden/loss_curve.json anew: after a change that is meant to
change the numbers of a run, and then read the difference.
"""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.training.checkpoints import disk_full_at, log_lines, same_weights
from tests.training.command_line import contents
from tests.training.patterns import image_set
from training.attacks.bare_network import BareNetwork
from training.networks.heads import Heads
from training.recipe import Recipe
from training.recipe_files import load_recipe
from training.run_folder import RunError, RunFolder
from training.trainer import Outcome, TrainingError, make_fabric, train

GOLDEN = Path(__file__).parents[1] / "golden" / "loss_curve.json"
GOLDEN_TOLERANCE = 1e-3
RECIPES = ("own-classifier-32", "own-one-class-32")
STEPS = 6
IMAGES = image_set(per_class=4, size=16)  # 12 images: two steps an epoch


def small(recipe: str = "own-classifier-32", *more: str) -> Recipe:
    """A run of six short steps with a checkpoint after each; dropout, so that its draws count too."""
    return load_recipe(
        recipe,
        "smoke",
        [
            "data.size=16",
            "data.shorter_side=16",
            "network.dropout=0.3",
            "optimiser.batch=6",
            "optimiser.epochs=3",
            "trainer.checkpoint_minutes=1e-9",
            *more,
        ],
    )


def loss_curves() -> dict[str, list[dict[str, float]]]:
    """Train two recipes for ten steps on images that are the same everywhere; return their logs without the speed."""
    curves = {}
    for name in RECIPES:
        recipe = load_recipe(name, "smoke", ["optimiser.lr=0.01", "optimiser.epochs=5"])
        with tempfile.TemporaryDirectory() as folder:
            run = RunFolder(Path(folder))
            train(recipe, image_set(per_class=11), run, seed=0)
            curves[name] = log_lines(run)
    return curves


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """An uninterrupted run; beside it, as NAME-STEP, what a kill after each of its checkpoints would have left."""
    folder = tmp_path_factory.mktemp("whole")
    run = RunFolder(folder / "run")

    def keep(outcome: Outcome) -> None:
        shutil.copytree(run.path, folder / f"run-{outcome.step}")

    assert train(small(), IMAGES, run, seed=0, on_checkpoint=keep).finished
    return run


@pytest.mark.slow
def test_loss_curves_are_the_golden_ones() -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    curves = loss_curves()
    assert curves.keys() == golden.keys()
    for name, lines in curves.items():
        assert len(lines) == len(golden[name]) == 10
        for line, expected in zip(lines, golden[name], strict=True):
            assert line == pytest.approx(expected, rel=GOLDEN_TOLERANCE), (name, expected["step"])


@pytest.mark.slow
def test_a_network_learns_the_patterns(tmp_path: Path) -> None:
    recipe = load_recipe(
        "own-classifier-32", "smoke", ["optimiser.lr=0.05", "optimiser.epochs=8", "augmentation.flip=false"]
    )
    run = RunFolder(tmp_path)
    train(recipe, image_set(per_class=16), run, seed=0)
    lines = log_lines(run)
    first, last = (sum(line["label"] for line in part) / 4 for part in (lines[:4], lines[-4:]))
    assert last < first / 2


def test_a_run_says_how_far_it_is(whole: RunFolder, tmp_path: Path) -> None:
    told: list[Outcome] = []
    outcome = train(small(), IMAGES, RunFolder(tmp_path), seed=0, on_checkpoint=told.append)
    assert [one.step for one in told] == [1, 2, 3, 4, 5, 6]
    assert [one.finished for one in told] == [False] * 5 + [True]
    assert (outcome.step, outcome.steps, outcome.finished) == (STEPS, STEPS, True)
    assert outcome.views == STEPS * 6 * 4
    assert outcome.device.startswith("CPU")
    assert told[0].seconds < outcome.seconds
    lines = log_lines(whole)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["epoch"] for line in lines] == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    for line in lines:
        assert line["loss"] == pytest.approx(line["label"] + 0.5 * line["rotation"])


def test_a_run_is_of_its_seed_alone(whole: RunFolder, tmp_path: Path) -> None:
    torch.manual_seed(123)
    again, other = RunFolder(tmp_path / "again"), RunFolder(tmp_path / "other")
    train(small(), IMAGES, again, seed=0)
    train(small(), IMAGES, other, seed=1)
    assert same_weights(again, whole)
    assert log_lines(again) == log_lines(whole)
    assert not same_weights(other, whole)


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_after_a_kill_at_any_checkpoint_the_weights_are_the_same(whole: RunFolder, tmp_path: Path, step: int) -> None:
    shutil.copytree(whole.path.with_name(f"run-{step}"), tmp_path, dirs_exist_ok=True)
    run = RunFolder(tmp_path)
    (tmp_path / ".checkpoint.pt.4711.tmp").write_bytes(run.checkpoint_path.read_bytes()[:1000])
    for line in ('{"step": 99, "loss": 1.0}\n', '{"step": 100, "lo'):  # later than the checkpoint, and cut short
        with run.metrics_path.open("a") as log:
            log.write(line)
    seconds = run.load_checkpoint()["seconds"]
    told: list[Outcome] = []
    outcome = train(small(), IMAGES, run, seed=0, resume=True, on_checkpoint=told.append)
    assert [one.step for one in told] == list(range(step, STEPS + 1))
    assert (outcome.finished, outcome.views) == (True, STEPS * 6 * 4)
    assert outcome.seconds > seconds
    assert same_weights(run, whole)
    assert log_lines(run) == log_lines(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "metrics.jsonl"]


def test_one_class_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    recipe = small("own-one-class-32")
    straight, stopped = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "stopped")
    train(recipe, IMAGES, straight, seed=3)
    for _ in range(STEPS):
        train(recipe, IMAGES, stopped, seed=3, resume=True, max_minutes=0)
    assert same_weights(stopped, straight)
    assert log_lines(stopped) == log_lines(straight)


def test_without_a_checkpoint_a_resumed_run_begins(whole: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.metrics_path.write_text('{"step": 1, "loss": 9.0}\n')
    assert train(small(), IMAGES, run, seed=0, resume=True).finished
    assert same_weights(run, whole)
    assert log_lines(run) == log_lines(whole)


def test_when_the_time_is_up_it_stops_at_a_checkpoint(whole: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    recipe = small("own-classifier-32", "trainer.checkpoint_minutes=60", "trainer.log_every=60")
    for step in range(1, STEPS + 1):
        outcome = train(recipe, IMAGES, run, seed=0, resume=step > 1, max_minutes=0)
        assert (outcome.step, outcome.finished) == (step, step == STEPS)
        assert run.load_checkpoint()["step"] == step
    assert same_weights(run, whole)
    assert log_lines(run) == log_lines(whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_at_a_checkpoint(whole: RunFolder, tmp_path: Path, number: signal.Signals) -> None:
    run = RunFolder(tmp_path)
    before = signal.getsignal(number)

    def interrupt(outcome: Outcome) -> None:
        if outcome.step == 2:
            signal.raise_signal(number)

    outcome = train(small(), IMAGES, run, seed=0, on_checkpoint=interrupt)
    assert (outcome.step, outcome.finished) == (3, False)
    assert run.load_checkpoint()["step"] == 3
    assert signal.getsignal(number) is before
    assert train(small(), IMAGES, run, seed=0, resume=True).finished
    assert same_weights(run, whole)


@pytest.mark.parametrize(("minutes", "kept"), [("1e-9", 1), ("60", 0)])
def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path, minutes: str, kept: int) -> None:
    run = RunFolder(tmp_path)
    recipe = small("own-classifier-32", "optimiser.lr=1e30", f"trainer.checkpoint_minutes={minutes}")
    said = "the last checkpoint, before it, is kept" if kept else "there is no checkpoint yet"
    with pytest.raises(TrainingError, match=f"the loss is not finite after step 2; {said}. Lower optimiser.lr"):
        train(recipe, IMAGES, run, seed=0)
    assert run.checkpoint_path.exists() == bool(kept)
    if kept:
        checkpoint = run.load_checkpoint()
        assert checkpoint["step"] == kept
        assert all(torch.isfinite(value).all() for value in checkpoint["network"].values())
    assert [line["step"] for line in log_lines(run)] == [1]


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, whole: RunFolder) -> None:
    """A weight can overflow at the last step, when no loss follows that would show it."""
    shutil.copytree(whole.path.with_name("run-5"), tmp_path, dirs_exist_ok=True)
    run = RunFolder(tmp_path)
    checkpoint = run.load_checkpoint()
    momenta = checkpoint["optimiser"]["state"].values()
    for state in momenta:
        state["momentum_buffer"].fill_(float("inf"))
    run.save_checkpoint({key: value for key, value in checkpoint.items() if key != "format"})
    before = contents(tmp_path)["checkpoint.pt"]
    with pytest.raises(TrainingError, match="some weights are not finite after step 6; the last checkpoint"):
        train(small(), IMAGES, run, seed=0, resume=True)
    assert run.checkpoint_path.read_bytes() == before


def test_an_existing_run_is_left_as_it_is(whole: RunFolder) -> None:
    before = contents(whole.path)
    with pytest.raises(RunError, match="holds a run already; go on with it by --resume, or choose another --out"):
        train(small(), IMAGES, whole, seed=0)
    with pytest.raises(RunError, match=r"these differ: --seed \(0 there, 1 here\)"):
        train(small(), IMAGES, whole, seed=1, resume=True)
    with pytest.raises(RunError, match=r"these differ: optimiser.lr \(0.1 there, 0.2 here\)"):
        train(small("own-classifier-32", "optimiser.lr=0.2"), IMAGES, whole, seed=0, resume=True)
    assert contents(whole.path) == before


def test_on_a_full_disk_the_earlier_checkpoint_stays(whole: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(whole.path.with_name("run-2"), tmp_path, dirs_exist_ok=True)
    run = RunFolder(tmp_path)
    before = run.checkpoint_path.read_bytes()
    with (
        disk_full_at(100_000),
        pytest.raises(RunError, match=r"could not write .*checkpoint.pt: File too large; what was there is intact"),
    ):
        train(small(), IMAGES, run, seed=0, resume=True)
    assert run.checkpoint_path.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "metrics.jsonl"]
    assert train(small(), IMAGES, run, seed=0, resume=True).finished
    assert same_weights(run, whole)
    assert log_lines(run) == log_lines(whole)


def test_a_full_disk_at_the_log_is_an_error_too(whole: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(whole.path.with_name("run-2"), tmp_path, dirs_exist_ok=True)
    run = RunFolder(tmp_path)
    before = contents(tmp_path)
    with (
        disk_full_at(len(before["metrics.jsonl"]) + 10),
        pytest.raises(RunError, match=r"could not write .*metrics.jsonl: File too large"),
    ):
        train(small(), IMAGES, run, seed=0, resume=True)
    assert contents(tmp_path)["checkpoint.pt"] == before["checkpoint.pt"]
    assert train(small(), IMAGES, run, seed=0, resume=True).finished
    assert log_lines(run) == log_lines(whole)


def test_fewer_images_than_a_batch_are_a_smaller_batch(tmp_path: Path) -> None:
    recipe = small("own-classifier-32", "optimiser.batch=128", "optimiser.epochs=1")
    outcome = train(recipe, IMAGES, RunFolder(tmp_path), seed=0)
    assert (outcome.steps, outcome.views) == (1, 12 * 4)


def test_on_a_processor_precision_is_single() -> None:
    fabric = make_fabric(small())
    assert fabric.device.type == "cpu"
    assert fabric._precision.precision == "32-true"
    assert (fabric.world_size, fabric.global_rank) == (1, 0)


def test_half_precision_trains_and_keeps_single_precision_weights(whole: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    train(small("own-classifier-32", "trainer.precision=bf16-mixed", "optimiser.epochs=1"), IMAGES, run, seed=0)
    first, exact = log_lines(run)[0]["loss"], log_lines(whole)[0]["loss"]
    assert first != exact
    assert first == pytest.approx(exact, rel=0.05)
    weights = run.load_checkpoint()["network"]
    assert all(value.dtype in (torch.float32, torch.int64) for value in weights.values())


def test_in_half_precision_a_network_sees_the_images_as_they_are(tmp_path: Path) -> None:
    """Fabric would round them; the attacks and evaluation do not."""

    class Seen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 2, 3)
            self.heads = Heads(2, {"label": 5})

        def forward(self, images: Tensor) -> dict[str, Tensor]:
            self.images = images
            self.features = self.convolution(images).mean((2, 3))
            logits: dict[str, Tensor] = self.heads(self.features)
            return logits

    module, images = Seen(), torch.rand(2, 3, 8, 8)
    network = make_fabric(small("own-classifier-32", "trainer.precision=bf16-mixed")).setup_module(module)
    logits = network(images)["label"]
    assert torch.equal(module.images, images)
    assert module.features.dtype == torch.bfloat16
    linear = module.heads.linear["label"]
    assert isinstance(linear, nn.Linear)
    assert torch.equal(logits, functional.linear(module.features.float(), linear.weight, linear.bias))
    bare = BareNetwork(network, "bf16-mixed")(images)["label"]
    assert torch.equal(bare, logits)


def test_in_float16_the_scale_of_the_loss_goes_on(tmp_path: Path) -> None:
    recipe = small("own-classifier-32", "trainer.precision=16-mixed", "optimiser.lr=0.001")
    run = RunFolder(tmp_path)
    assert not train(recipe, IMAGES, run, seed=0, max_minutes=0).finished
    begun = run.load_checkpoint()
    assert train(recipe, IMAGES, run, seed=0, resume=True).finished
    steps = [checkpoint["loss_scale"]["_growth_tracker"] for checkpoint in (begun, run.load_checkpoint())]
    assert steps == [1, STEPS]


if __name__ == "__main__":
    torch.set_num_threads(1)
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    GOLDEN.write_text(json.dumps(loss_curves(), indent=1) + "\n", encoding="utf-8")
