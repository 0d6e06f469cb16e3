"""The recipes of Section 3.2: the paper's settings and printed figures."""

from __future__ import annotations

from training.recipe_files import load_recipe
from training.run_folder import flat_settings

NORMAL, ROTATIONS = "cifar10-robustness-normal", "cifar10-robustness-rotations"
PRINTED = {
    NORMAL: {"accuracy": 94.7, "accuracy_corruptions_mean": 72.3},
    ROTATIONS: {"accuracy": 95.5, "accuracy_corruptions_mean": 76.9},
}


def test_figure_3s_rows_carry_the_printed_means() -> None:
    for name, printed in PRINTED.items():
        recipe = load_recipe(name)
        assert recipe.targets == ["figure-3"]
        assert {figure.metric: figure.value for figure in recipe.published} == printed
        assert all(figure.where.startswith("Section 3.2") and not figure.derived for figure in recipe.published)


def test_the_rows_differ_in_the_rotation_loss_alone() -> None:
    normal, rotations = (flat_settings(load_recipe(name).settings()) for name in (NORMAL, ROTATIONS))
    named = {"name", "title", "row", "method", "published", "evaluation.score"}
    assert {key for key in normal if normal[key] != rotations[key]} - named == {"objective.rotation_weight"}
    assert (normal["objective.rotation_weight"], rotations["objective.rotation_weight"]) == (0, 0.5)
    assert rotations["objective.rotation_views"] == "all"


def test_training_is_section_3_1s_normal_training() -> None:
    before, here = (flat_settings(load_recipe(name).settings()) for name in ("cifar10-normal", NORMAL))
    tables = ("network.", "data.", "augmentation.", "objective.", "optimiser.")
    settings = {key: value for key, value in here.items() if key.startswith(tables)}
    assert settings == {key: value for key, value in before.items() if key.startswith(tables)}
    assert (settings["network.depth"], settings["network.dropout"], settings["optimiser.epochs"]) == (40, 0, 100)


def test_small_scales_judge_fewer_images() -> None:
    for name in PRINTED:
        limits = [load_recipe(name, scale).evaluation.corruptions for scale in ("paper", "cpu", "smoke")]  # type: ignore[arg-type]
        assert [limit.limit for limit in limits if limit] == [0, 1000, 24]
