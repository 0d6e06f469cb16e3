"""The single figures of a row over its seeds: mean and standard error; of a sweep, of each seed's mean over it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training.recipe import Published, Recipe
from training.report.basis import Basis
from training.report.collect import Run, System
from training.reproduce.targets import Target

MEAN_OVER_SWEEP = "_mean"


@dataclass(frozen=True)
class Measured:
    """A figure over ``seeds``: its ``mean`` as a fraction and, of two seeds or more, the ``error`` of that mean."""

    mean: float
    error: float | None
    seeds: int

    @property
    def percent(self) -> str:
        """The figure in percent, e.g. '92.0 ± 2.0'."""
        error = "" if self.error is None else f" ± {100 * self.error:.1f}"
        return f"{100 * self.mean:.1f}{error}"


def measured(system: System, metric: str, basis: Basis) -> Measured | None:
    """Return the row's figure, a mean over sets or corruptions over those of ``basis``; None if no seed has it whole.

    'error_mean' is the mean of 'error' over the sweep (other metrics likewise); a seed counts when all values of the
    sweep are there.
    """
    return over_seeds([value for seed in system.seeds if (value := _of_seed(system, seed, metric, basis)) is not None])


def over_seeds(values: Sequence[float]) -> Measured | None:
    """Return the figure that ``values``, one a seed, make; None if there are none."""
    return Measured(sum(values) / len(values), standard_error(values), len(values)) if values else None


def _of_seed(system: System, seed: int, metric: str, basis: Basis) -> float | None:
    runs, sweep = system.of_seed(seed), system.recipe.sweep
    if sweep is None:
        return _of_run(runs[0], metric, basis)
    by_value = {run.sweep_value: run.figures().get(metric.removesuffix(MEAN_OVER_SWEEP)) for run in runs}
    values = [by_value.get(value) for value in sweep.values]
    whole = [value for value in values if value is not None]
    return sum(whole) / len(whole) if len(whole) == len(values) else None


def _of_run(run: Run, metric: str, basis: Basis) -> float | None:
    evaluation = run.evaluation
    if metric in ("auroc_mean", "auroc_others_mean"):
        areas = {name: auroc_of(run, name) for name in (basis.sets if metric == "auroc_mean" else basis.others)}
        return _mean(areas)
    if metric == "accuracy_corruptions_mean":
        accuracy = evaluation.get("corruptions", {}).get("accuracy", {})
        return _mean({name: accuracy.get(name, {}).get("mean") for name in basis.corruptions})
    if metric.startswith("accuracy_pgd"):
        attack = attack_of(evaluation, metric)
        return None if attack is None else float(attack["accuracy"])
    return run.figures().get(metric)


def _mean(figures: dict[str, float | None]) -> float | None:
    """Return the mean of ``figures``; None if there are none, or one is not there."""
    there = [value for value in figures.values() if value is not None]
    return sum(there) / len(there) if there and len(there) == len(figures) else None


def auroc_of(run: Run, name: str) -> float | None:
    """Return the AUROC of the run's own score on an out-of-distribution set; None if it was not measured."""
    found = run.evaluation["ood"].get(name)
    return None if found is None else float(found[run.evaluation["score"]]["auroc"])


def attack_of(evaluation: dict[str, Any], metric: str) -> dict[str, Any] | None:
    """Return the attack of an evaluation that ``metric`` is of, with its settings and images; None if there is none.

    Where 20-step PGD had more images than 100-step PGD, 'accuracy_pgd20' is of the latter's images, if the sweep over
    the radius holds the very same attack on them: else a reader of both compares images and not attacks. (Images of one
    number are the same in all parts.) 'accuracy_pgd20_more' is then that of all its images, and None otherwise.
    """
    section: dict[str, Any] = evaluation.get("adversarial", {})
    whole, longer = section.get("pgd20"), section.get("pgd100")
    if metric == "accuracy_pgd100":
        return longer
    shared = _like(whole, longer["count"], section.get("sweep", [])) if whole and longer else None
    if metric == "accuracy_pgd20_more":
        return None if shared is None else whole
    return shared or whole


def _like(attack: dict[str, Any], count: int, sweep: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return from ``sweep`` the same attack on ``count`` images; None if it has so many itself, or there is none."""
    if attack["count"] == count:
        return None
    wanted = {"count": count} | {key: attack.get(key) for key in ("steps", "epsilon_255", "step_255")}
    return next((found for found in sweep if {key: found.get(key) for key in wanted} == wanted), None)


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
