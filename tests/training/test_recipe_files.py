"""Recipes that ship, their scales, ``--set``, and what is said of a key that does not exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.recipe import SCALES, Scale
from training.recipe_files import RECIPES, SCALE_FILES, RecipeError, all_recipes, load_recipe, recipe_paths

# The columns of the paper that recipes ship for, as printed. Table 3, 'Ours'; Figure 5.
TABLE_3_OURS = """
airplane 77.5
automobile 96.9
bird 87.3
cat 80.9
deer 92.7
dog 90.2
frog 90.9
horse 96.5
ship 95.2
truck 93.3
mean 90.1
"""
FIGURE_5 = {"cifar10-baseline": 91.4, "cifar10-rotations": 96.2}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", recipe_paths())
def test_every_recipe_loads_at_every_scale(name: str, scale: Scale) -> None:
    recipe = load_recipe(name, scale)
    assert recipe.name == name
    assert recipe.scale == scale


def test_file_names_are_recipe_names_and_none_is_there_twice() -> None:
    files = [path for path in RECIPES.rglob("*.toml") if SCALE_FILES not in path.parents]
    assert len(files) == len(recipe_paths()) == len(all_recipes())
    assert [recipe.name for recipe in all_recipes()] == list(recipe_paths())


def test_published_figures_are_the_papers() -> None:
    printed = {f"auroc_{row.split()[0]}": float(row.split()[1]) for row in TABLE_3_OURS.strip().splitlines()}
    ours = load_recipe("cifar10-one-class-transformations").published
    assert {figure.metric: figure.value for figure in ours} == printed
    assert all(figure.where == "Table 3" and not figure.derived for figure in ours)
    for name, value in FIGURE_5.items():
        (figure,) = load_recipe(name).published
        assert (figure.metric, figure.value) == ("auroc_mean", value)
        assert figure.where.startswith("Figure 5")
    checked_elsewhere = ("3.1", "3.2", "3.3")
    others = set(recipe_paths()) - {*FIGURE_5, "cifar10-one-class-transformations"}
    others -= {recipe.name for recipe in all_recipes() if recipe.section in checked_elsewhere}
    assert [name for name in others if load_recipe(name).published] == []


def test_the_paper_scale_is_the_papers_setting() -> None:
    rotations = load_recipe("cifar10-rotations")
    assert (rotations.network.model_dump(), rotations.optimiser.model_dump()) == (
        {"kind": "wide_resnet", "depth": 40, "width": 2, "dropout": 0.3},
        {
            "lr": 0.1,
            "lr_end": 1e-6,
            "warmup": 0.0,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "batch": 128,
            "epochs": 200,
        },
    )
    assert rotations.objective.model_dump()["rotation_weight"] == 4.0  # the sum over the four rotations
    one_class = load_recipe("cifar10-one-class-transformations")
    assert one_class.network.model_dump() == {"kind": "wide_resnet", "depth": 16, "width": 4, "dropout": 0.3}
    assert one_class.objective.model_dump()["order"] == "rotate_translate"


def test_scales_are_laid_from_general_to_particular() -> None:
    one_class, all_classes = (
        load_recipe(name, "cpu") for name in ("cifar10-one-class-transformations", "cifar10-transformations")
    )
    assert one_class.calibration.source == all_classes.calibration.source == "train_holdout"  # every
    assert one_class.network.model_dump()["width"] == all_classes.network.model_dump()["width"] == 2  # objective
    assert (one_class.optimiser.epochs, one_class.optimiser.batch) == (12, 32)  # objective
    assert (all_classes.optimiser.epochs, all_classes.optimiser.batch) == (12, 64)  # objective, recipe
    assert one_class.augmentation == load_recipe("cifar10-one-class-transformations").augmentation  # none


def test_a_scale_for_one_kind_of_network_leaves_another_kind_alone() -> None:
    assert load_recipe("own-classifier-224", "smoke").network.model_dump() == {"kind": "resnet18"}


def test_set_comes_last_and_parses_toml_values_and_bare_words() -> None:
    recipe = load_recipe(
        "own-one-class-32",
        "smoke",
        [
            "optimiser.epochs=3",
            "optimiser.lr=2e-2",
            "data.in_class=polar bear",
            "augmentation.flip=false",
            'evaluation.ood=["gaussian"]',
            "optimiser.epochs = 4",
        ],
    )
    assert recipe.optimiser.epochs == 4
    assert recipe.optimiser.lr == 0.02
    assert recipe.data.in_class == "polar bear"
    assert recipe.augmentation.flip is False
    assert recipe.evaluation.ood == ["gaussian"]
    assert recipe.optimiser.batch == 16


def test_set_may_choose_another_kind_of_network() -> None:
    recipe = load_recipe("own-classifier-32", "smoke", ['network={kind="resnet18"}'])
    assert recipe.network.kind == "resnet18"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimiser.bacth=3", "unknown key 'optimiser.bacth'; did you mean 'optimiser.batch'?"),
        ("network.depht=16", "unknown key 'network.depht'; did you mean 'network.depth'?"),
        ("objective.rotation_view=all", "'objective.rotation_view'; did you mean 'objective.rotation_views'?"),
        ("objective.order=rotate_translate", "unknown key 'objective.order'"),
        ("titel=x", "unknown key 'titel'; did you mean 'title'?"),
        ("epochs=3", "unknown key 'epochs'; did you mean 'optimiser.epochs'?"),
        ('published=[{metric="a", value=1, where="b", valeu=1}]', "did you mean 'published.0.value'?"),
        ("network.kind=resnet19", "network: Input tag 'resnet19'"),
        ("optimiser.lr=fast", "optimiser.lr: Input should be a valid number"),
        ("optimiser.lr=-1", "optimiser.lr: Input should be greater than 0"),
        ("network.depth=12", "network: depth 12 is not 6n + 4"),
        ("scale=smoke", "choose it with --scale"),
        ("optimiser.epochs", "is not KEY=VALUE"),
        ("=3", "is not KEY=VALUE"),
    ],
)
def test_what_is_wrong_is_said_by_name(override: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("own-classifier-32", "paper", [override])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_of_another_kind_of_network_is_not_suggested_to_itself() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("own-classifier-224", "paper", ["network.depth=16"])
    assert str(caught.value).endswith("unknown key 'network.depth'")


@pytest.mark.parametrize(
    ("name", "said"),
    [("cifar10-rotation", "did you mean 'cifar10-rotations'"), ("no/such.toml", "no recipe 'no/such.toml'")],
)
def test_an_unknown_recipe_is_named_with_the_nearest(name: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        load_recipe(name)


def test_an_unknown_scale_is_named() -> None:
    with pytest.raises(RecipeError, match="no scale 'cpus'; did you mean 'cpu'"):
        load_recipe("cifar10-rotations", "cpus")  # type: ignore[arg-type]


def test_a_recipe_of_ones_own_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = recipe_paths()["own-classifier-32"].read_text()
    path.write_text(text.replace('name = "own-classifier-32"', 'name = "mine"').replace("width = 2", "width = 3"))
    recipe = load_recipe(str(path), "paper")
    assert (recipe.name, recipe.network.model_dump()["width"]) == ("mine", 3)
    assert load_recipe(str(path), "smoke").network.model_dump()["width"] == 1


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe", b'name = "a"\nname = "b"\n'])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"broken\.toml is not valid TOML"):
        load_recipe(str(path))


def test_a_recipe_with_a_table_missing_says_which(tmp_path: Path) -> None:
    path = tmp_path / "short.toml"
    path.write_text(recipe_paths()["own-classifier-32"].read_text().split("[trainer]")[0])
    with pytest.raises(RecipeError, match="trainer: Field required"):
        load_recipe(str(path))


@pytest.mark.parametrize("name", ["1_000", "0x10", "1e3", "007", "true", "nan", "1979-05-27", "[1]", "3", "ok"])
def test_a_name_on_the_command_line_is_text_whatever_else_it_looks_like(name: str) -> None:
    recipe = load_recipe("own-one-class-32", "cpu", [f"data.in_class={name}", f"data.name={name}"])
    assert (recipe.data.in_class, recipe.data.name) == (name, name)
    assert load_recipe("own-one-class-32", "cpu", [f'data.in_class="{name}"']).data.in_class == name
    assert load_recipe("own-one-class-32", "cpu", ["data.size=1_6", "optimiser.lr=1e-3"]).data.size == 16


@pytest.mark.parametrize(
    ("line", "key"), [('section = ["4"]', "section"), ("name = [3]", "name"), ("objective = 3", "objective")]
)
@pytest.mark.parametrize("scale", SCALES)
def test_a_file_with_something_else_for_a_name_is_refused_by_key(
    tmp_path: Path, line: str, key: str, scale: Scale
) -> None:
    lines = (RECIPES / "own-images" / "own-classifier-32.toml").read_text().splitlines()
    kept = [text for text in lines if not text.startswith(f"{key} =")]
    if key == "objective":
        start = kept.index("[objective]")
        end = next(place for place in range(start + 1, len(kept)) if kept[place].startswith("["))
        kept = kept[:start] + kept[end:]
    path = tmp_path / "mine.toml"
    path.write_text("\n".join([line, *kept]))
    with pytest.raises(RecipeError, match=f"mine.toml': .*{key}: "):
        load_recipe(str(path), scale)


def test_a_seed_of_the_calibration_is_no_negative_number() -> None:
    with pytest.raises(RecipeError, match=r"calibration\.seed: Input should be greater than or equal to 0"):
        load_recipe("own-classifier-32", "cpu", ["calibration.seed=-1"])
