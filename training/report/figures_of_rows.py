"""The single figures of a row over its seeds: mean and standard error; of a sweep, of each seed's mean over it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from training.recipe import Published, Recipe
from training.report.collect import Run, System
from training.reproduce.targets import Target

MEAN_OVER_SWEEP = "_mean"


@dataclass(frozen=True)
class Measured:
    """A figure over ``seeds``: its ``mean`` as a fraction and, of two seeds or more, the ``error`` of that mean."""

    mean: float
    error: float | None
    seeds: int


def measured(system: System, metric: str) -> Measured | None:
    """Return the row's figure; None if no seed has it whole.

    'error_mean' is the mean of 'error' over the sweep (other metrics likewise); a seed counts when all values of the
    sweep are there.
    """
    values = [value for seed in system.seeds if (value := _of_seed(system, seed, metric)) is not None]
    if not values:
        return None
    return Measured(sum(values) / len(values), standard_error(values), len(values))


def _of_seed(system: System, seed: int, metric: str) -> float | None:
    runs, sweep = system.of_seed(seed), system.recipe.sweep
    if sweep is None:
        return runs[0].figures().get(metric) if runs else None
    by_value = {run.sweep_value: run.figures().get(metric.removesuffix(MEAN_OVER_SWEEP)) for run in runs}
    values = [by_value.get(value) for value in sweep.values]
    whole = [value for value in values if value is not None]
    return sum(whole) / len(whole) if len(whole) == len(values) else None


def standard_error(values: Sequence[float]) -> float | None:
    """Return the standard deviation (n - 1) over the root of n; None of fewer than two values."""
    count = len(values)
    if count < 2:
        return None
    mean = sum(values) / count
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1) / count)


def published(recipe: Recipe, metric: str, target: Target) -> Published | None:
    """Return what the paper prints of a metric for a row, in the target itself or else in its sections, or None."""
    figures = [figure for figure in recipe.published if figure.metric == metric]
    for place in (target.title.split(":")[0], *target.sections):
        for figure in figures:
            if figure.where.startswith(place):
                return figure
    return figures[0] if figures else None


def state_of(system: System | None) -> str:
    """Say what there is of a row whose figure is not there: 'not run', or how much of its sweep is."""
    if system is None or not system.runs:
        return "not run"
    sweep = system.recipe.sweep
    if sweep is None:
        return "not measured"
    found = {run.sweep_value for run in system.runs if run.seed == system.seeds[0]}
    there = len([value for value in sweep.values if value in found])
    return f"{there} of {len(sweep.values)} run"


def longest(runs: Sequence[Run]) -> Run:
    """Return the run that was trained longest, to stand for the others' conditions."""
    return max(runs, key=lambda run: float(run.training["seconds"]))
