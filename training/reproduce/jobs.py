"""Jobs: one training and its evaluation each, and the run folders they leave under RUNS."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.evaluation_file import EVALUATION_FILE
from training.recipe import Recipe, Scale
from training.recipe_files import load_recipe
from training.reproduce.targets import Target, recipes_of
from training.run_folder import RunError, RunFolder, settings_that_differ

LOG_FILE = "log.txt"


@dataclass(frozen=True)
class Job:
    """One training: a recipe at a scale, with the sweep's value if there is a sweep, and a seed."""

    recipe: str
    scale: Scale
    seed: int
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of its run folder: the same for every target and every call that needs this network."""
        settings = [_slug(override) for override in self.overrides]
        return "_".join([self.recipe, *settings, self.scale, f"seed-{self.seed}"])

    def resolved(self) -> Recipe:
        """Return the recipe with the scale and the sweep's value. Raises RecipeError."""
        return load_recipe(self.recipe, self.scale, list(self.overrides))


def _slug(override: str) -> str:
    """Return 'strength-0.3' for 'labels.strength=0.3': letters, digits, dots and hyphens."""
    key, _, value = override.partition("=")
    return re.sub(r"[^A-Za-z0-9.]+", "-", f"{key.split('.')[-1]}-{value}").strip("-")


def sweep_overrides(recipe: Recipe) -> list[tuple[str, ...]]:
    """Return the overrides of each training that makes up a row of ``recipe``: one of each value of its sweep."""
    if recipe.sweep is None:
        return [()]
    return [(f"{recipe.sweep.key}={json.dumps(value)}",) for value in recipe.sweep.values]


def plan(target: Target, scale: Scale, seeds: int) -> list[Job]:
    """Return the jobs of a target: recipe by recipe, sweep value by value, seeds 0 .. ``seeds`` - 1, seed by seed.

    All rows of one seed come before the next seed, so that a sweep cut short can be compared. Raises TargetError.
    """
    return [
        Job(recipe.name, scale, seed, overrides)
        for seed in range(seeds)
        for recipe in recipes_of(target, scale)
        for overrides in sweep_overrides(recipe)
    ]


def is_finished(job: Job, run: RunFolder) -> bool:
    """Return whether ``run`` holds the job's whole training and the evaluation of its last checkpoint.

    Raises RunError if it holds another training: one of other settings or another seed, which must not be taken for
    this one.
    """
    try:
        there, seed = run.recipe(), run.environment()["seed"]
        record = run.training_record()
    except RunError:
        return False  # not begun, or cut short while beginning: training says what is wrong, if anything is
    differing = settings_that_differ(there.settings(), job.resolved().settings())
    if seed != job.seed:
        differing.append(f"seed ({seed} there, {job.seed} here)")
    if differing:
        raise RunError(f"{run.path} is of another training: {', '.join(differing)}; move it away, or choose other RUNS")
    return bool(record.get("finished")) and _evaluated_step(run.path / EVALUATION_FILE) == record["step"]


def _evaluated_step(path: Path) -> int | None:
    try:
        evaluation: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return int(evaluation["conditions"]["checkpoint_step"])
    except (OSError, ValueError, KeyError):
        return None
