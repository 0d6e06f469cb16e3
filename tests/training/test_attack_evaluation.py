"""Attacks on a small trained network: stronger ones never leave more right; and what the evaluation writes."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from serving.graphs.graph import load_graph
from tests.training.patterns import image_set
from tests.training.runs import make_data_root, make_run
from training.attacks.auto_attack import has_auto_attack
from training.attacks.bare_network import BareNetwork
from training.attacks.evaluation import evaluate_adversarial
from training.attacks.in_words import attack_lines
from training.attacks.masking import judge, masking_checks, spsa_check
from training.attacks.pgd import pgd
from training.attacks.spsa import margin, spsa
from training.attacks.target import PgdAttack, Target
from training.data.draws import Draws
from training.evaluation import evaluate_run
from training.evaluation_table import print_evaluation
from training.export import export_run
from training.networks.heads import Heads
from training.objectives.build import build_objective
from training.recipe_files import load_recipe
from training.recipe_tables.attacks import AdversarialEvaluationSettings, MaskingSettings
from training.training_run import load_split

CPU = torch.device("cpu")
MASKING = MaskingSettings(images=0, steps=[1, 4, 16], epsilons_255=[8, 24, 48, 160], restarts=3)


class Small(nn.Module):
    """Two layers on a reduced image: quick to train, and to attack."""

    def __init__(self, heads: dict[str, int]) -> None:
        super().__init__()
        self.hidden = nn.Linear(192, 32)
        self.heads = Heads(32, heads)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        logits: dict[str, Tensor] = self.heads(
            functional.relu(self.hidden(functional.avg_pool2d(images * 2 - 1, 4).flatten(1)))
        )
        return logits


def train_small(recipe: str, *overrides: str, steps: int) -> Small:
    """Train on 36 images of three patterns by the recipe's objective."""
    images = image_set(per_class=12)
    pixels = torch.from_numpy(images.pixels.read(0, len(images)).transpose(0, 3, 1, 2).copy())
    labels = torch.from_numpy(images.labels)
    objective = build_objective(load_recipe(recipe, "smoke", list(overrides)), 3)
    torch.manual_seed(0)
    network = Small(objective.heads)
    optimiser = torch.optim.SGD(network.parameters(), 0.05, 0.9, nesterov=True)
    for step in range(steps):
        optimiser.zero_grad()
        objective.losses(network, pixels, labels, Draws(0, step, len(pixels), CPU))["loss"].backward()
        optimiser.step()
    return network.eval()


@pytest.fixture(scope="module")
def trained() -> Small:
    """Trained without attacks: right on nearly all, and easy to attack."""
    return train_small("cifar10-normal", steps=80)


@pytest.fixture
def target(trained: Small) -> Target:
    return Target(trained, image_set(per_class=16), 0, CPU)


def accuracy(target: Target, epsilon: float, steps: int, step: float | None = None, restart: int = 0) -> float:
    attack = PgdAttack(epsilon / 255, (epsilon / 4 if step is None else step) / 255, steps, restart)
    right, _ = target.pgd(attack, "", target.indices(0))
    return float(right.mean())


def test_a_stronger_attack_never_leaves_more_right(target: Target) -> None:
    clean = float(target.clean(target.indices(0)).mean())
    assert clean > 0.9
    by_radius = [accuracy(target, radius, 10) for radius in (1, 8, 16, 24, 48, 96)]
    by_steps = [accuracy(target, 24, steps, step=2) for steps in (1, 3, 10, 30)]
    for found in (by_radius, by_steps):
        assert all(later <= earlier + 0.05 for earlier, later in pairwise(found))
        assert all(value <= clean for value in found)
    assert by_radius[0] > by_radius[-1] == 0


def test_every_attack_starts_from_the_same_noise_whatever_the_batch(target: Target, trained: Small) -> None:
    attack = PgdAttack(4 / 255, 1 / 255, 3)
    losses = []
    for batch in (7, 48):
        target.batch = batch
        losses.append(target.pgd(attack, "", target.indices(0), wrong_too=True)[1])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    again = Target(trained, image_set(per_class=16), 1, CPU)
    assert again.pgd(attack, "", again.indices(0), wrong_too=True)[1] != losses[1]


def test_fewer_images_are_some_of_the_many(target: Target) -> None:
    many, few = target.indices(24), target.indices(6)
    assert (len(many), len(few)) == (24, 6)
    assert set(few) < set(many)


def test_margin_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])
    assert margin(logits, torch.tensor([0, 1])).tolist() == [-1.0, 2.0]


def test_spsa_climbs_a_linear_margin_without_a_gradient() -> None:
    weights = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 4, 4))).float()

    def network(images: Tensor) -> dict[str, Tensor]:
        assert not torch.is_grad_enabled()
        score = (images * weights).sum(dim=(1, 2, 3))
        return {"label": torch.stack([torch.zeros_like(score), score], dim=1)}

    clean, epsilon = torch.full((2, 3, 4, 4), 0.5), 8 / 255
    attacked = spsa(
        BareNetwork(network, "32-true"),
        clean,
        torch.tensor([0, 1]),  # the margin is the score, and its negative
        epsilon=epsilon,
        step=0.01,
        steps=20,
        samples=64,
        delta=0.01,
        generator=np.random.default_rng(1),
    )
    assert (attacked - clean).abs().max() <= epsilon + 1e-6
    gained = ((attacked - clean) * weights).sum(dim=(1, 2, 3)) / (epsilon * weights.abs().sum())
    assert gained[0] > 0.9, "nearly the most a ball allows"
    assert gained[1] < -0.9


def test_a_plainly_trained_network_masks_nothing(target: Target) -> None:
    found = masking_checks(target, MASKING, 24 / 255)
    assert found["checks"] == dict.fromkeys(found["checks"], True)
    assert [row["steps"] for row in found["steps"]] == [1, 4, 16]
    assert found["epsilons"][-1]["accuracy"] == 0
    assert len(found["restarts"]) == 3


class Quantised(nn.Module):
    """A network behind rounding to 16 levels, whose gradient is zero everywhere: the textbook case of masking."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        logits: dict[str, Tensor] = self.network(torch.round(images * 15) / 15 + 0 * images)
        return logits


def test_a_network_without_useful_gradients_is_told_by_the_checks(trained: Small) -> None:
    masked = Target(Quantised(trained), image_set(per_class=8), 0, CPU)
    checks = masking_checks(masked, MASKING, 8 / 255)["checks"]
    assert not checks["the largest radius leaves nothing right"]


def rows(*values: tuple[float, float]) -> list[dict[str, float]]:
    return [{"loss": loss, "accuracy": accuracy} for loss, accuracy in values]


SOUND = {"by_steps": rows((1, 0.6), (2, 0.4)), "by_epsilon": rows((1, 0.6), (9, 0.01)), "by_restart": [0.4, 0.38]}


@pytest.mark.parametrize(
    ("change", "fails"),
    [
        ({}, []),
        ({"by_steps": rows((2, 0.6), (1.97, 0.4))}, []),  # within the slack of two hundredths
        ({"by_steps": rows((2, 0.6), (1.9, 0.4))}, ["more steps raise the loss"]),
        ({"by_steps": rows((1, 0.4), (2, 0.41))}, []),
        ({"by_steps": rows((1, 0.4), (2, 0.43))}, ["more steps lower the accuracy"]),
        ({"by_epsilon": rows((9, 0.6), (1, 0.01))}, ["a larger radius raises the loss"]),
        ({"by_epsilon": rows((1, 0.1), (2, 0.2), (3, 0))}, ["a larger radius lowers the accuracy"]),
        ({"by_epsilon": rows((1, 0.6), (9, 0.03))}, ["the largest radius leaves nothing right"]),
        ({"by_restart": [0.4, 0.37, 0.365]}, []),
        ({"by_restart": [0.4, 0.37, 0.35]}, ["random restarts add little"]),
    ],
)
def test_each_check_fails_for_what_it_is_to_find(change: dict[str, Any], fails: list[str]) -> None:
    checks = judge(**{**SOUND, **change})
    assert [name for name, holds in checks.items() if not holds] == fails


@pytest.mark.parametrize(
    ("spsa_accuracy", "count", "holds"),
    [(0.50, 1000, True), (0.39, 1000, True), (0.37, 1000, False), (0.375, 50, True)],
)
def test_spsa_is_stronger_where_it_leaves_less_right_than_pgd(spsa_accuracy: float, count: int, holds: bool) -> None:
    """On fifty images one is two points: no sign."""
    found = {"accuracy": spsa_accuracy, "accuracy_pgd20": 0.4, "count": count}
    assert spsa_check(found) == ("SPSA is not stronger than PGD", holds)


def test_an_attack_without_gradients_finds_what_rounding_hides(trained: Small) -> None:
    """PGD has no gradient to follow there, and SPSA, which looks a level around, has."""
    chosen = settings()
    changed = chosen.model_copy(
        update={
            "epsilon_255": 48.0,
            "spsa": chosen.spsa.model_copy(
                update={"images": 24, "steps": 12, "samples": 48, "step_255": 8.0, "delta": 0.05}
            ),
        }
    )
    found = evaluate_adversarial(Quantised(trained), changed, image_set(per_class=8), "cpu")
    assert not found["masking"]["checks"]["SPSA is not stronger than PGD"]
    assert found["spsa"]["accuracy"] < found["spsa"]["accuracy_pgd20"] - 0.1
    assert "FAIL: SPSA is not stronger than PGD" in "\n".join(attack_lines({"adversarial": found})).replace(
        "these FAIL: the largest radius leaves nothing right; ", "FAIL: "
    )
    plain = evaluate_adversarial(trained, changed, image_set(per_class=8), "cpu")
    assert plain["masking"]["checks"]["SPSA is not stronger than PGD"]


def settings(**changes: Any) -> AdversarialEvaluationSettings:
    table = load_recipe("cifar10-adversarial", "smoke").evaluation.adversarial
    assert table is not None
    return table.model_copy(update=changes)


def test_what_the_section_holds(trained: Small) -> None:
    test = image_set(per_class=16)
    found = evaluate_adversarial(trained, settings(), test, "cpu")
    assert found["clean"]["count"] == 12
    assert {key: found["pgd20"][key] for key in ("count", "steps", "step_255")} == pytest.approx(
        {"count": 12, "steps": 20, "step_255": 2.0}
    )
    assert {key: found["pgd100"][key] for key in ("count", "steps", "step_255")} == pytest.approx(
        {"count": 6, "steps": 100, "step_255": 0.3}
    )
    assert [(row["epsilon_255"], row["step_255"]) for row in found["sweep"]] == [(4.0, 1.0), (10.0, 2.5)]
    assert found["sweep"][1]["accuracy"] <= found["sweep"][0]["accuracy"] <= found["clean"]["accuracy"]
    assert "SPSA is not stronger than PGD" in found["masking"]["checks"]
    assert found["auto_attack"] is None
    lines = attack_lines({"adversarial": found})
    assert any("radius 8/255, 100 steps of 0.3/255" in line and "6 images" in line for line in lines)
    assert attack_lines({}) == []


def test_auto_attack_without_its_package_is_named(trained: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = evaluate_adversarial(trained, settings(auto_attack_images=4), image_set(per_class=4), "cpu")
    assert "quarterturn[attacks]" in found["auto_attack"]["missing"]
    assert "AutoAttack not measured" in "\n".join(attack_lines({"adversarial": found}))


@pytest.mark.skipif(not has_auto_attack(), reason="needs the extra 'attacks'")
def test_auto_attack_leaves_no_more_right_than_pgd() -> None:
    from training.attacks.auto_attack import auto_attack

    torch.manual_seed(0)
    layer = nn.Linear(48, 5)
    network = BareNetwork(lambda images: {"label": layer(images.flatten(1)) * 20}, "32-true")
    clean, epsilon = torch.rand(12, 3, 4, 4), 8 / 255
    labels = network(clean)["label"].argmax(dim=1)

    def still_right(attacked: Tensor) -> float:
        assert (attacked - clean).abs().max() <= epsilon + 1e-5
        return float((network(attacked)["label"].argmax(dim=1) == labels).float().mean())

    by_pgd = pgd(
        lambda images: functional.cross_entropy(network(images)["label"], labels, reduction="sum"),
        clean,
        torch.zeros_like(clean),
        epsilon=epsilon,
        step=epsilon / 4,
        steps=20,
    )
    by_auto_attack = auto_attack(network, clean, labels, epsilon=epsilon, seed=0, batch=12)
    assert still_right(by_auto_attack) <= still_right(by_pgd) < 1


@pytest.fixture(scope="module")
def cifar_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data_root(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize(
    ("recipe", "score"), [("cifar10-adversarial-rotations", "kl_rotation"), ("cifar10-trades", "msp")]
)
def test_a_run_is_evaluated_exported_and_served(recipe: str, score: str, cifar_root: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", cifar_root, recipe)
    evaluation = evaluate_run(run, cifar_root, device="cpu")
    assert evaluation["ood"] == {}
    measured = {row["metric"]: row["measured_percent"] for row in evaluation["published"]}
    assert measured["accuracy_pgd20"] == pytest.approx(100 * evaluation["adversarial"]["pgd20"]["accuracy"], abs=0.01)
    console = Console(record=True, width=200)
    print_evaluation(evaluation, console)
    assert "checks for masked gradients" in console.export_text()
    exported = export_run(run, "robust", tmp_path / "models")
    graph = load_graph(exported.path)
    assert graph.manifest.score == score
    images = load_split(run.recipe(), cifar_root, "test").pixels.read(0, 3)
    outputs = graph.run(images)
    assert outputs["probabilities"].shape == (3, 3)
    assert ("rotation_loss" in outputs) == (score == "kl_rotation")
    card = (exported.path.parent / "README.md").read_text(encoding="utf-8")
    assert "under PGD (radius 8/255, 20 steps of 2/255)" in card


STRONG = ("objective.attack.epsilon_255=24.0", "objective.attack.steps=5", "objective.attack.step_255=8.0")


@pytest.mark.parametrize(
    "name",
    ["cifar10-adversarial", "cifar10-adversarial-rotations", "cifar10-adversarial-rotations-joint", "cifar10-trades"],
)
def test_training_under_attack_withstands_more_than_plain_training(name: str, target: Target) -> None:
    robust = Target(train_small(name, *STRONG, steps=80), image_set(per_class=16), 0, CPU)
    assert float(robust.clean(robust.indices(0)).mean()) > 0.8
    assert accuracy(robust, 24, 10) > accuracy(target, 24, 10) + 0.1
