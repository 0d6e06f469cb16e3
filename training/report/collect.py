"""Reading run folders for the report: whole, evaluated runs, grouped into systems; what is left out, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from training.precision import precision_on, trained_precision
from training.published import measured_figures
from training.recipe import Recipe, Scale
from training.recipe_files import RecipeError, load_recipe
from training.reproduce.wall_time import CALLS_FILE, Call, read_calls
from training.run_folder import flat_settings, in_precision, settings_that_differ

# Of which test images, and how many, is no other way to measure: tables and conditions say it (see Basis).
_OF_THE_SAMPLE = {
    "evaluation.ood",
    "evaluation.ood_ratio",
    "evaluation.limit",
    "evaluation.corruptions.limit",
    "evaluation.adversarial.auto_attack_images",
}
FILES = ("recipe.json", "training.json", "evaluation.json")
# What every version has written, and every table reads.
_NEEDED = {
    "training.json": ("step", "seconds", "device", "data.name", "data.digest", "data.count", "data.available"),
    "evaluation.json": (
        "seed",
        "score",
        "ood",
        "missing",
        "in_distribution.count",
        "conditions.checkpoint_step",
        "conditions.device",
        "conditions.source_revision",
    ),
}


@dataclass(frozen=True)
class Run:
    """A whole training with the evaluation of its last checkpoint, as its folder's JSON files have them.

    ``sweep_value``: the value of the swept setting, None where the recipe has no sweep. ``variant``: 'key=value' of
    each setting in which it differs from the recipe that ships, the swept one aside.
    """

    name: str
    recipe: Recipe
    training: dict[str, Any]
    evaluation: dict[str, Any]
    sweep_value: float | str | None
    variant: tuple[str, ...]

    @property
    def seed(self) -> int:
        """The seed it was trained with."""
        return int(self.evaluation["seed"])

    def figures(self) -> dict[str, float]:
        """Return its single figures as fractions, by metric."""
        return measured_figures(self.recipe, self.evaluation)


@dataclass(frozen=True)
class System:
    """All runs of one recipe at one scale with one variant: a row of a table. ``runs`` by seed and sweep value."""

    recipe: Recipe
    variant: tuple[str, ...]
    runs: tuple[Run, ...] = ()

    @property
    def scale(self) -> Scale:
        """The scale of its runs."""
        return self.recipe.scale

    @property
    def label(self) -> str:
        """The row's name, with what is varied."""
        return self.recipe.row + (f" [{', '.join(self.variant)}]" if self.variant else "")

    @property
    def seeds(self) -> list[int]:
        """The seeds of its runs, ascending."""
        return sorted({run.seed for run in self.runs})

    def of_seed(self, seed: int) -> list[Run]:
        """Return the runs of a seed, in the order of the sweep's values."""
        return [run for run in self.runs if run.seed == seed]


@dataclass
class Collection:
    """What a folder of runs holds. ``left_out``: (folder, reason). ``calls`` of `quarterturn reproduce`."""

    systems: list[System] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    @property
    def scales(self) -> list[Scale]:
        """The scales that there are runs of."""
        return sorted({system.scale for system in self.systems})

    def of(self, recipe: str, scale: Scale) -> list[System]:
        """Return the systems of a recipe at a scale, the one that ships first."""
        found = [system for system in self.systems if system.recipe.name == recipe and system.scale == scale]
        return sorted(found, key=lambda system: system.variant)


def collect(folder: Path, scale: Scale | None = None) -> Collection:
    """Read every run folder under ``folder``, at ``scale`` if given; recipes that do not ship are passed over.

    Of several folders that hold the same training (recipe, settings, seed), the one with the fullest evaluation counts.
    """
    collection = Collection()
    groups: dict[tuple[str, str, tuple[str, ...]], dict[tuple[int, float | str | None], Run]] = {}
    for path in sorted(folder.rglob("recipe.json")):
        run = _read(path.parent, str(path.parent.relative_to(folder)))
        if isinstance(run, str):
            collection.left_out.append((str(path.parent.relative_to(folder)), run))
            continue
        if run is None or (scale is not None and run.recipe.scale != scale):
            continue
        group = groups.setdefault((run.recipe.name, run.recipe.scale, run.variant), {})
        place = (run.seed, run.sweep_value)
        if place in group:
            fuller, other = sorted((group[place], run), key=_fullness, reverse=True)  # stable: else the first by path
            more = ", whose evaluation holds more" if _fullness(fuller) > _fullness(other) else ""
            collection.left_out.append((other.name, f"the same training as {fuller.name}{more}"))
            run = fuller
        group[place] = run
    for (_, _, variant), runs in sorted(groups.items()):
        ordered = sorted(runs.values(), key=lambda run: (run.seed, _order(run.sweep_value)))
        collection.systems.append(System(ordered[0].recipe, variant, tuple(ordered)))
    collection.left_out.sort()
    collection.calls = [call for path in sorted(folder.rglob(CALLS_FILE)) for call in read_calls(path)]
    return collection


def _fullness(run: Run) -> tuple[bool, int, bool, int]:
    """Order evaluations by what they hold: curves, sets and corruptions, AutoAttack, parts (later ones have more)."""
    evaluation = run.evaluation
    sets = len(evaluation["ood"]) + len(evaluation.get("corruptions", {}).get("accuracy", {}))
    auto_attack = evaluation.get("adversarial", {}).get("auto_attack") or {}
    return bool(evaluation.get("curves")), sets, "accuracy" in auto_attack, len(evaluation)


def _order(value: float | str | None) -> tuple[float, str]:
    return (value, "") if isinstance(value, int | float) else (0.0, value or "")


def _read(path: Path, name: str) -> Run | str | None:
    """Return the run in a folder, or why it is left out; None for a recipe that does not ship."""
    contents: dict[str, dict[str, Any]] = {}
    for file in FILES:
        try:
            contents[file] = json.loads((path / file).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return "not evaluated" if file == "evaluation.json" else f"no {file}"
        except OSError as error:
            return f"{file} cannot be read: {error.strerror or error}"
        except ValueError:
            return f"{file} is damaged"
        if not isinstance(contents[file], dict):
            return f"{file} is damaged"
    settings, training, evaluation = (contents[file] for file in FILES)
    try:
        recipe = Recipe.model_validate(settings)
    except ValidationError:
        return "recipe.json is of another version"
    if not training.get("finished"):
        return f"not finished: step {training.get('step', 0)} of {training.get('steps', 'unknown')}"
    for file, keys in _NEEDED.items():
        if lacking := [key for key in keys if not _has(contents[file], key)]:
            return f"{file} is damaged: no {', '.join(lacking)}"
    if evaluation["conditions"]["checkpoint_step"] != training["step"]:
        return "the evaluation is of an earlier checkpoint"
    if (seed := _trained_seed(path)) not in (None, evaluation["seed"]):
        return f"the evaluation is of an earlier training, with seed {evaluation['seed']} and not {seed}"
    try:
        shipped = load_recipe(recipe.name, recipe.scale)
    except RecipeError:
        return None
    swept = None if shipped.sweep is None else shipped.sweep.key
    after = flat_settings(recipe.settings())
    precision = trained_precision(recipe.trainer.precision, training)
    usual = precision_on(shipped.trainer.precision, cuda=shipped.scale == "paper")  # the scale for GPUs
    variant = tuple(_changes(in_precision(shipped, usual), in_precision(recipe, precision), swept))
    value = None if swept is None else after.get(swept)
    judged = evaluation.get("settings", settings["evaluation"])
    variant = tuple(dict.fromkeys([*variant, *_judged_otherwise(shipped.settings()["evaluation"], judged)]))
    variant = tuple(change for change in variant if change.split("=")[0] not in _OF_THE_SAMPLE)
    # rows, targets and printed figures as they are now; settings as they were run
    current = {"targets": shipped.targets, "row": shipped.row, "title": shipped.title, "published": shipped.published}
    return Run(name, recipe.model_copy(update=current), training, evaluation, value, variant)


def _trained_seed(path: Path) -> int | None:
    """Return the seed that a run folder says it was trained with; None where that file was not kept."""
    try:
        seed = json.loads((path / "environment.json").read_text(encoding="utf-8"))["seed"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return seed if isinstance(seed, int) else None


def _has(content: dict[str, Any], key: str) -> bool:
    """Return whether ``content`` holds the value of a dotted key."""
    here: Any = content
    for part in key.split("."):
        if not isinstance(here, dict) or part not in here:
            return False
        here = here[part]
    return True


def _judged_otherwise(shipped: dict[str, Any], judged: dict[str, Any]) -> Iterator[str]:
    """Yield the settings in which an evaluation was another one than the recipe that ships asks for."""
    before, after = flat_settings(shipped, "evaluation."), flat_settings(judged, "evaluation.")
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key) and (key in after or before[key] is not None):
            yield f"{key}={json.dumps(after.get(key))}"


def _changes(shipped: dict[str, Any], run: dict[str, Any], swept: str | None) -> Iterator[str]:
    flat = flat_settings(run)
    for difference in settings_that_differ(shipped, run):
        key = difference.split(" ")[0]
        if key != swept and (key in flat or flat_settings(shipped)[key] is not None):
            yield f"{key}={json.dumps(flat.get(key))}"
