"""The recipes of Section 3.3, and one of each family from training to an answer of its graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serving.graphs.graph import load_graph
from training.evaluation import evaluate_run
from training.export import export_run
from training.recipe import Recipe
from training.recipe_files import load_recipe, recipe_paths
from training.report.collect import collect
from training.report.tables import figures_table
from training.reproduce.jobs import plan
from training.reproduce.targets import TARGETS
from training.run_folder import RunFolder
from training.training_run import load_split, train_recipe

# Table 2 as printed: normal training and rotations on CIFAR-10, then on CIFAR-100.
TABLE_2 = """
none  27.4 21.8 52.6 47.4
glc5  14.6 10.5 48.3 43.2
glc10 11.6  9.6 39.1 36.8
"""
NAMES = [name for name in recipe_paths() if "-labels-" in name]
FORWARD = [
    "cifar10-labels-forward",
    "cifar10-labels-forward-rotations",
    "cifar100-labels-forward",
    "cifar100-labels-forward-rotations",
]


def test_published_figures_are_those_of_table_2() -> None:
    printed = {}
    for line in TABLE_2.strip().splitlines():
        which, *figures = line.split()
        columns = [
            f"{data}-labels-{which}{suffix}" for data in ("cifar10", "cifar100") for suffix in ("", "-rotations")
        ]
        printed |= dict(zip(columns, map(float, figures), strict=True))
    found = {}
    for name in NAMES:
        recipe = load_recipe(name)
        for figure in recipe.published:
            assert (figure.metric, figure.where, figure.derived) == ("error_mean", "Table 2", False)
            found[name] = figure.value
        assert recipe.targets == ["table-2", "figure-4"]
    assert found == printed
    assert sorted(set(NAMES) - set(printed)) == FORWARD


@pytest.mark.parametrize("name", NAMES)
def test_the_paper_scale_is_the_papers_setting(name: str) -> None:
    recipe = load_recipe(name)
    rotations = name.endswith("-rotations")
    assert recipe.network.model_dump() == {"kind": "wide_resnet", "depth": 40, "width": 2, "dropout": 0.3}
    assert recipe.data.name == name.split("-")[0]
    assert recipe.objective.model_dump()["rotation_weight"] == (0.5 if rotations else 0.0)
    assert recipe.optimiser.epochs == (40 if rotations else 100)
    assert (recipe.pretraining is not None) == rotations
    if recipe.pretraining is not None:
        assert recipe.pretraining.model_dump() == {**recipe.optimiser.model_dump(), "epochs": 100}
    assert recipe.labels is not None
    trusted = {"glc5": 0.05, "glc10": 0.1}.get(name.split("-")[2], 0.0)
    assert (recipe.labels.trusted, recipe.labels.correction == "glc") == (trusted, trusted > 0)
    assert recipe.sweep is not None
    assert recipe.sweep.key == "labels.strength"
    assert recipe.sweep.values == [place / 10 for place in range(11)]


def test_forward_correction_is_reproduced_and_reported_without_a_printed_figure(tmp_path: Path) -> None:
    """Nothing was run here: its rows, too, say so, and go after the paper's own."""
    jobs = plan(TARGETS["table-2"], "cpu", 1)
    strengths = [job.resolved().settings()["labels"]["strength"] for job in jobs if job.recipe in FORWARD]
    assert strengths == [0.4] * 4
    assert [job.recipe in FORWARD for job in jobs] == [False] * 24 + [True] * 4
    for target in ("table-2", "figure-4"):
        rows = figures_table(collect(tmp_path), TARGETS[target], "cpu").rows
        forward = [row for row in rows if "Forward correction" in row[0]]
        assert [row[2:5] for row in forward] == [["-", "not run", "-"]] * 4


@pytest.mark.parametrize("table", ["labels", "pretraining"])
def test_an_objective_without_labels_takes_no_such_table(table: str) -> None:
    settings = load_recipe("own-one-class-32").settings()
    settings[table] = load_recipe("cifar10-labels-glc5-rotations").settings()[table]
    with pytest.raises(ValidationError, match=f"table '{table}' is for objective 'classification'"):
        Recipe.model_validate(settings)


@given(st.sampled_from(NAMES), st.floats(0, 1))
def test_any_strength_can_be_set(name: str, strength: float) -> None:
    recipe = load_recipe(name, "smoke", [f"labels.strength={strength}"])
    assert recipe.labels is not None
    assert recipe.labels.strength == strength


@pytest.mark.slow
@pytest.mark.parametrize("name", ["none", "glc10-rotations", "forward"])
def test_from_training_to_an_answer(name: str, data_root: Path, tmp_path: Path) -> None:
    changes = ["data.name=photos", "data.limit_per_class=12", "labels.strength=0.8"]
    recipe = load_recipe(f"cifar10-labels-{name}", "smoke", changes)
    run = RunFolder(tmp_path / "run")
    assert train_recipe(recipe, data_root, run, seed=1).finished
    evaluation = evaluate_run(run, data_root, device="cpu")
    assert evaluation["ood"] == evaluation["ood_mean"] == {}
    assert {figure["measured_percent"] for figure in evaluation["published"]} <= {None}, "the mean is over many runs"
    exported = export_run(run, "labels", tmp_path / "models")
    assert exported.manifest.score == ("kl_rotation" if "rotations" in name else "msp")
    card = (exported.path.parent / "README.md").read_text()
    assert "Labels corrupted at strength 0.8" in card
    graph = load_graph(exported.path)
    test = load_split(recipe, data_root, "test")
    outputs = graph.run(test.pixels.read(0, len(test)))
    assert outputs["probabilities"].shape == (24, 3)
    accuracy = np.mean(outputs["probabilities"].argmax(axis=1) == test.labels)
    assert evaluation["accuracy"] == pytest.approx(accuracy), "on clean test labels"
    assert ("rotation_loss" in outputs) == ("rotations" in name)
