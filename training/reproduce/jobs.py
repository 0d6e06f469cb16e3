"""Jobs: one training and its evaluation each, and the run folders they leave under RUNS."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import ValidationError

from training.evaluation_file import read_evaluation
from training.phase_plan import pretraining_recipe
from training.precision import precision_on, trained_precision, was_on_cuda
from training.recipe import EvaluationSettings, Recipe, Scale
from training.recipe_files import load_recipe
from training.reproduce.targets import Target, recipes_of
from training.run_folder import RunError, RunFolder, in_precision, settings_that_differ

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


@cache
def pretraining_of(job: Job) -> str | None:
    """Return the settings and seed of the job's pre-training, which jobs that have them alike share; None without."""
    recipe = job.resolved()
    if recipe.pretraining is None:
        return None
    return json.dumps([pretraining_recipe(recipe).settings(), job.seed], sort_keys=True)


def is_finished(job: Job, run: RunFolder) -> bool:
    """Return whether ``run`` holds the job's whole training, and its last checkpoint evaluated as the job says.

    Raises RunError if it holds another training (see ``is_trained``), or was evaluated another way and there is no
    checkpoint to evaluate anew.
    """
    if not is_trained(job, run):
        return False
    evaluation = read_evaluation(run.path) or {}
    try:
        step = int(evaluation["conditions"]["checkpoint_step"])
    except (KeyError, TypeError, ValueError):
        return False
    if step != run.training_record("step")["step"] or evaluation.get("seed", job.seed) != job.seed:
        return False
    if _evaluated_as(evaluation, run.recipe()) == job.resolved().evaluation:
        return True
    if not run.checkpoint_path.exists():
        raise RunError(
            f"{run.path} was evaluated with other settings and has no checkpoint to evaluate; "
            "move it away, or choose other RUNS"
        )
    return False


def _evaluated_as(evaluation: dict[str, Any], recipe: Recipe) -> EvaluationSettings | None:
    """Return the settings of an evaluation: its own, or its run's for one that an earlier version wrote."""
    try:
        return EvaluationSettings.model_validate(evaluation.get("settings", recipe.evaluation))
    except ValidationError:
        return None  # settings of another version


def is_trained(job: Job, run: RunFolder) -> bool:
    """Return whether ``run`` holds the job's whole training.

    Raises RunError if it holds another one: of other settings that decide the weights, or another seed, which must not
    be taken for this one. A precision of 'auto' is what it was on the device that the run was trained on.
    """
    try:
        there, seed = run.recipe(), run.environment().get("seed")
        record = run.training_record()
    except RunError:
        return False  # not begun, or cut short while beginning: training says what is wrong, if anything is
    here = job.resolved()
    asked = precision_on(here.trainer.precision, was_on_cuda(record))
    trained = trained_precision(there.trainer.precision, record)
    differing = settings_that_differ(in_precision(there, trained), in_precision(here, asked))
    if seed != job.seed:
        differing.append(f"seed ({seed} there, {job.seed} here)")
    if differing:
        raise RunError(f"{run.path} is of another training: {', '.join(differing)}; move it away, or choose other RUNS")
    return bool(record.get("finished"))
