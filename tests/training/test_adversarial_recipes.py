"""Section 3.1's recipes: the paper's figures and settings, what they refuse, and that each trains from its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.training.patterns import image_set
from training.recipe_files import RecipeError, all_recipes, load_recipe
from training.run_folder import RunFolder, load_network
from training.trainer import train

# Table 1 as printed: row, clean, 20-step PGD, 100-step PGD.
TABLE_1 = {
    "cifar10-normal": ("Normal Training", 94.8, 0.0, 0.0),
    "cifar10-adversarial": ("Adversarial Training", 84.2, 44.8, 44.8),
    "cifar10-adversarial-rotations": ("+ Auxiliary Rotations (Ours)", 83.5, 50.4, 50.4),
}
VARIANTS = ("cifar10-adversarial-rotations-joint", "cifar10-adversarial-rotations-classifier")
TRADES = ("cifar10-trades", "cifar10-trades-rotations")


def test_published_figures_are_table_1s() -> None:
    for name, (row, *printed) in TABLE_1.items():
        recipe = load_recipe(name)
        assert recipe.row == row
        assert {figure.metric: figure.value for figure in recipe.published} == dict(
            zip(("accuracy", "accuracy_pgd20", "accuracy_pgd100"), printed, strict=True)
        )
        assert all(figure.where == "Table 1" and not figure.derived for figure in recipe.published)
    assert [load_recipe(name).published for name in VARIANTS] == [[], []]


def test_figures_of_trades_follow_from_printed_ones_and_say_so() -> None:
    plain, rotations = (load_recipe(name).published for name in TRADES)
    assert [figure.derived for figure in plain + rotations] == [True, True]
    assert rotations[0].value == pytest.approx(44.8 + 7.79)
    assert plain[0].value == pytest.approx(44.8 + 7.79 - 1.22)


def test_the_section_has_these_recipes_and_figure_2_its_two() -> None:
    section = [recipe for recipe in all_recipes() if recipe.section == "3.1"]
    assert {recipe.name for recipe in section} == {*TABLE_1, *VARIANTS, *TRADES}
    assert all("table-1" in recipe.targets for recipe in section)
    swept = [recipe.name for recipe in section if "figure-2" in recipe.targets]
    assert swept == ["cifar10-adversarial-rotations", "cifar10-adversarial"]
    for recipe in section:
        settings = recipe.evaluation.adversarial
        assert settings is not None
        assert settings.strengths.epsilons_255 == [4, 5, 6, 7, 8, 9, 10]
        assert (settings.epsilon_255, settings.pgd20.step_255, settings.pgd100.step_255) == (8, 2, 0.3)
        assert recipe.optimiser.epochs == 100


@pytest.mark.parametrize("name", [*TABLE_1, *VARIANTS, *TRADES])
def test_training_attacks_are_of_one_threat_model(name: str) -> None:
    attack = load_recipe(name).objective.model_dump().get("attack")
    if name == "cifar10-normal":
        assert attack is None
        return
    assert (attack["epsilon_255"], attack["steps"], attack["step_255"]) == (8, 10, 2)
    assert (attack["start"], attack["network_mode"]) == (
        ("gaussian", "evaluation") if name in TRADES else ("uniform", "training")
    )


@pytest.mark.parametrize(
    ("recipe", "override", "said"),
    [
        ("cifar10-adversarial", "objective.attack.rotation_weight=0.5", "without a rotation head"),
        ("cifar10-adversarial", "objective.attack.form=separate", "without a rotation head"),
        ("cifar10-adversarial", "evaluation.score=kl_rotation", "needs objective.rotation_weight above 0"),
        ("cifar10-adversarial", "data.in_class=horse", "one-class objectives"),
        ("cifar10-adversarial-rotations", "objective.attack.rotation_weight=0.0", "attack.rotation_weight above 0"),
        ("cifar10-adversarial", "objective.attack.epsilon_255=300", "less than or equal to 255"),
        ("cifar10-adversarial", "objective.attack.epsilno_255=8", "did you mean 'objective.attack.epsilon_255'"),
        ("cifar10-trades", "objective.attack.form=joint", "unknown key 'objective.attack.form'"),
        ("cifar10-normal", "evaluation.adversarial.masking.steps=[5, 1]", "must ascend"),
        ("cifar10-normal", "evaluation.adversarial.sweep=[]", "unknown key 'evaluation.adversarial.sweep'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(recipe: str, override: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said.replace("'", ".")):
        load_recipe(recipe, "paper", [override])


@pytest.mark.parametrize("name", ["cifar10-adversarial-rotations", "cifar10-trades-rotations"])
def test_a_run_stopped_under_attack_goes_on_to_the_very_same_weights(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, "smoke", ["optimiser.batch=6", "objective.attack.steps=1"])
    images, weights = image_set(per_class=4), []
    for stops in (False, True):
        run = RunFolder(tmp_path / str(stops))
        if stops:
            assert train(recipe, images, run, seed=3, max_minutes=1e-9).step == 1
        outcome = train(recipe, images, run, seed=3, resume=stops)
        assert outcome.finished
        run.write_json("recipe.json", recipe.settings())
        run.write_json("training.json", {"classes": list(images.classes)})
        weights.append(load_network(run)[0].state_dict())
    for key, value in weights[0].items():
        assert torch.equal(value, weights[1][key]), key
