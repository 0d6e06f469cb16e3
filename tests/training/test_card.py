from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from serving.graphs.manifest import (
    Calibration,
    Manifest,
    RecipeRecord,
    TrainingData,
)
from serving.images.fitting import Fitting
from training.card import CardFacts, published_share, render_card, reproduction_overrides
from training.recipe import Recipe
from training.recipe_files import load_recipe
from training.scorer import view_grid


def judged(auroc: float) -> dict[str, float]:
    return {"auroc": auroc, "aupr": auroc / 2, "fpr95": 1 - auroc}


def make_evaluation(recipe: str, score: str, auroc: float) -> dict[str, Any]:
    detectors = {"msp": judged(0.7), "kl": judged(0.75), score: judged(auroc)}
    return {
        "recipe": recipe,
        "scale": "cpu",
        "seed": 3,
        "kind": "classifier",
        "score": score,
        "in_distribution": {"data": "cifar10", "split": "test", "in_class": None, "available": 9806, "count": 9806},
        "accuracy": 0.8312,
        "one_class": None,
        "ood_ratio": 0.2,
        "ood": {
            "textures": {"count": 1200, "available": 1200, "source": "data", **detectors},
            "gaussian": {"count": 1961, "available": 1961, "source": "noise", **detectors},
        },
        "ood_mean": detectors,
        "missing": ["svhn"],
        "false_alarm": {
            "alpha": 0.05,
            "rate": 0.0512,
            "count": 9806,
            "calibration_n": 4,
            "calibration_split": "held out of train",
        },
        "published": [
            {
                "metric": "auroc_mean",
                "published_percent": 96.2,
                "measured_percent": 84.6,
                "where": "Figure 5",
                "derived": False,
            }
        ],
        "conditions": {"device": "CPU", "images_scored": 12967, "views_per_image": 4, "seconds": 120.0},
    }


def make_facts(recipe: Recipe, **changes: Any) -> CardFacts:
    grid = view_grid(recipe)
    data = {"name": "cifar10", "split": "train", "digest": "sha256:split", "available": 49059, "count": 44153}
    one_class = recipe.evaluation.score == "transformation"
    manifest = Manifest(
        schema_version=1,
        name="mine",
        kind="one_class" if one_class else "classifier",
        method=recipe.method,
        score=recipe.evaluation.score,
        classes=["cat", "dog"],
        normal=recipe.data.in_class if one_class else None,
        fitting=Fitting(size=32, shorter_side=32),
        view_grid=grid.spec() if grid else None,
        recipe=RecipeRecord(name=recipe.name, scale=recipe.scale, settings=recipe.settings()),
        network="WRN 16-1",
        precision="fp32",
        training_data=TrainingData.model_validate({**data, "in_class": recipe.data.in_class}),
        metrics={},
        calibration=Calibration(
            n=4, scores=[-3.0, -2.0, -1.0, 0.5], data="cifar10", split="held out of train", digest="sha256:pixels"
        ),
        libraries={},
        source_revision="abc",
    )
    facts: dict[str, Any] = {
        "manifest": manifest,
        "recipe": recipe,
        "digest": "sha256:0123",
        "size": 1_234_567,
        "record": {
            "held_out": 4906,
            "finished": True,
            "step": 10,
            "steps": 10,
            "views": 88306,
            "seconds": 1620.0,
            "device": "a processor, 2 threads",
        },
        "environment": {"seed": 3, "libraries": {"torch": "2.14.1"}, "source_revision": "abc"},
        "step": 10,
        "evaluation": make_evaluation(recipe.name, recipe.evaluation.score, 0.846),
        "baseline": None,
        "difference": 2e-6,
    }
    return CardFacts(**{**facts, **changes})


def rows_of(card: str, first: str) -> list[list[str]]:
    """Return the cells of the table rows that begin with ``first``."""
    lines = [line for line in card.splitlines() if line.startswith(f"| {first} |")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe("cifar10-rotations", "cpu")


def test_the_card_says_what_how_long_and_on_what(recipe: Recipe) -> None:
    card = render_card(make_facts(recipe))
    for fact in (
        "# mine\n",
        "classifier of 2 classes (cat, dog)",
        "sha256:0123",
        "1.23 MB",
        "44153 images of cifar10",
        "4906 more were held out",
        "27.0 minutes on a processor, 2 threads",
        "seed 3",
        "2.0e-06 of PyTorch",
        "accuracy 83.1 %",
        "false alarms at alpha 0.05: 5.1 %",
        "Not measured, as the data was not there: svhn",
        "median -1.500",
        "scale `cpu`",
    ):
        assert fact in card


def test_figures_are_percentages_by_set_and_detector(recipe: Recipe) -> None:
    full, alone = rows_of(render_card(make_facts(recipe)), "textures")
    assert full == ["textures", "1200", "70.0", "35.0", "30.0", "84.6", "42.3", "15.4"]
    assert alone == ["textures", "70.0", "75.0", "84.6"]


def test_every_table_is_rectangular(recipe: Recipe) -> None:
    card = render_card(make_facts(recipe, baseline=make_evaluation("cifar10-baseline", "msp", 0.65)))
    for table in re.findall(r"(?:^\|.*\n)+", card, flags=re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_a_baseline_stands_first(recipe: Recipe) -> None:
    baseline = make_evaluation("cifar10-baseline", "kl", 0.75)
    baseline["ood"]["textures"]["msp"] = judged(0.61)
    card = render_card(make_facts(recipe, baseline=baseline))
    assert "MSP baseline of cifar10-baseline AUROC" in card
    assert "quarterturn train cifar10-baseline --scale cpu --seed 3 --data DATA --out BASELINE" in card
    assert "--baseline BASELINE" in card
    assert "holds `cifar10/`, `textures/`" in card
    assert rows_of(card, "textures")[0][2] == "61.0"


def test_published_figures_stand_beside_measured_ones(recipe: Recipe) -> None:
    assert rows_of(render_card(make_facts(recipe)), "auroc_mean") == [["auroc_mean", "96.2", "84.6", "Figure 5"]]


def test_a_mean_over_a_part_of_the_papers_sets_is_called_that(recipe: Recipe) -> None:
    facts = make_facts(recipe)
    assert facts.evaluation is not None
    published = [{**facts.evaluation["published"][0], "measured_over": "7 of the 8 sets, without svhn"}]
    card = render_card(make_facts(recipe, evaluation={**facts.evaluation, "published": published}))
    assert rows_of(card, "auroc_mean")[0][2] == "84.6 (over 7 of the 8 sets, without svhn)"


def test_without_evaluation_the_card_says_so(recipe: Recipe) -> None:
    assert "Not measured: the run has no evaluation" in render_card(make_facts(recipe, evaluation=None))


def test_an_unfinished_run_is_called_that(recipe: Recipe) -> None:
    facts = make_facts(recipe)
    stopped = render_card(make_facts(recipe, step=4, record={**facts.record, "finished": False}))
    assert "UNFINISHED: step 4 of 10" in stopped
    assert "UNFINISHED" in render_card(make_facts(recipe, record={"held_out": 0}))
    assert "UNFINISHED" not in render_card(facts)


def test_one_class_cards_say_what_is_normal() -> None:
    recipe = load_recipe("cifar10-one-class-transformations", "cpu", ["data.in_class=ship"])
    card = render_card(make_facts(recipe, evaluation=None))
    assert "What is normal: **ship**" in card
    assert "36 views an image in one batch" in card
    assert "--set data.in_class=ship" in card


def test_an_incomplete_copy_of_cifar10_is_called_that() -> None:
    assert published_share("cifar10", "train", None, 50_000) is None
    assert published_share("own", "train", None, 10) is None
    whole = published_share("cifar10", "train", None, 49_059)
    assert whole is not None
    assert "Of the 50000 train images published (cifar10) 49059 were there (98.1 %)" in whole
    part = published_share("cifar10", "test", "ship", 812)
    assert part is not None
    assert "Of the 1000 test images published (cifar10, class ship) 812" in part


def test_commands_make_the_same_recipe_again() -> None:
    overrides = ["optimiser.epochs=3", "data.in_class=ship", "augmentation.flip=false", 'evaluation.ood=["gaussian"]']
    changed = load_recipe("cifar10-one-class-transformations", "cpu", overrides)
    found = reproduction_overrides(changed)
    assert found is not None
    assert sorted(found) == sorted(overrides)
    assert load_recipe("cifar10-one-class-transformations", "cpu", found) == changed


def test_commands_are_valid_shell_whatever_the_names(recipe: Recipe) -> None:
    overrides = ['evaluation.ood=["gaussian", "my defects"]', "data.name=it's $HOME; [a] b", "optimiser.lr=1e-05"]
    changed = load_recipe(recipe.name, recipe.scale, overrides)
    train = render_card(make_facts(changed)).split("```sh\n")[1].splitlines()[0]
    words = shlex.split(train)
    given = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    assert given == reproduction_overrides(changed)
    assert sorted(given) == sorted(overrides)
    assert load_recipe(recipe.name, recipe.scale, given) == changed
    assert words[-4:] == ["--data", "DATA", "--out", "RUN"]


@pytest.mark.parametrize("name", ["3", "1_000", "true", "2024-01-01", "[1]", '"quoted"', "'single'", "ok"])
def test_a_class_is_set_again_by_its_very_name(name: str) -> None:
    shipped = load_recipe("own-one-class-32", "cpu")
    changed = shipped.model_copy(update={"data": shipped.data.model_copy(update={"in_class": name})})
    found = reproduction_overrides(changed)
    assert found is not None
    assert load_recipe("own-one-class-32", "cpu", found) == changed


def test_a_shipped_recipe_needs_no_overrides(recipe: Recipe) -> None:
    assert reproduction_overrides(recipe) == []
    commands = render_card(make_facts(recipe)).split("```sh\n")[1]
    assert commands.startswith("quarterturn train cifar10-rotations --scale cpu --seed 3 --data DATA --out RUN\n")


def test_a_recipe_of_the_users_own_is_not_reproduced_by_name(recipe: Recipe) -> None:
    assert reproduction_overrides(recipe.model_copy(update={"name": "my-own-thing"})) is None
