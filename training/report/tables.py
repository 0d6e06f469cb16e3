"""The report's tables of figures as data: rows of text, percentages with one decimal, printed beside measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.published import DERIVED, PAPER_SETS
from training.recipe import Scale
from training.recipe_files import load_recipe
from training.report.basis import Basis, basis_of
from training.report.collect import Collection, System
from training.report.figures_of_rows import MEAN_OVER_SWEEP, auroc_of, measured, over_seeds, published, state_of
from training.report.images_of_rows import images_of
from training.reproduce.targets import Target, recipes_of

METRIC_TITLES = {
    "accuracy": "accuracy",
    "accuracy_pgd20_more": "accuracy, 20-step PGD, more images",
    "accuracy_pgd20": "accuracy, 20-step PGD",
    "accuracy_pgd100": "accuracy, 100-step PGD",
}
# Shown only where there is such a figure, and the metric whose printed figure stands beside it.
_OPTIONAL = {"accuracy_pgd20_more": "accuracy_pgd20", "auroc_others_mean": "auroc_others_mean"}


@dataclass(frozen=True)
class Table:
    """A table with a title above and a note below."""

    title: str
    header: list[str]
    rows: list[list[str]]
    note: str = ""


def mark(scale: Scale) -> str:
    """Return what marks everything that was not run as published; '' at scale 'paper'."""
    if scale == "paper":
        return ""
    return (
        f"Scale `{scale}`: smaller networks, fewer epochs or fewer images than published; not the paper's experiment."
    )


def systems_of(collection: Collection, target: Target, scale: Scale) -> list[System]:
    """Return the target's rows at a scale, one a recipe that ships, even if nothing was run, with variants after it."""
    rows: list[System] = []
    for recipe in recipes_of(target, scale):
        found = collection.of(recipe.name, scale)
        if not any(not system.variant for system in found):
            rows.append(System(recipe, ()))
        rows += found
    return rows


def figures_table(collection: Collection, target: Target, scale: Scale) -> Table:
    """Return the target's single figures: printed, measured with its standard error, difference, images, seeds."""
    systems = systems_of(collection, target, scale)
    basis = basis_of(systems)
    rows = [
        _row(system, metric, target, basis)
        for system in systems
        for metric in target.metrics
        if metric not in _OPTIONAL or measured(system, metric, basis) is not None
    ]
    header = ["row", "figure", "printed", "measured", "difference", "test images", "seeds", "scale"]
    notes = ["In percent. Measured: mean ± standard error over the seeds, of two or more."]
    if any(cell.endswith("*") for row in rows for cell in row):
        notes.append(DERIVED)
    notes += [*_notes(systems, target, basis), mark(scale)]
    return Table(f"{target.title} (scale `{scale}`)", header, rows, " ".join(filter(None, notes)))


def _row(system: System, metric: str, target: Target, basis: Basis) -> list[str]:
    printed = published(system.recipe, _OPTIONAL.get(metric, metric), target)
    found = measured(system, metric, basis)
    shown = "-" if printed is None else f"{printed.value:g}" + ("*" if printed.derived else "")
    cells = [row_label(system), _metric_title(system, metric, basis), shown]
    if found is None:
        return [*cells, state_of(system), "-", "-", str(len(system.seeds) or "-"), system.scale]
    difference = "-" if printed is None else f"{100 * found.mean - printed.value:+.1f}"
    return [*cells, found.percent, difference, images_of(system, metric, basis), str(found.seeds), system.scale]


def _metric_title(system: System, metric: str, basis: Basis) -> str:
    means = {
        "accuracy_corruptions_mean": f"accuracy, {basis.mean_of_corruptions}",
        "auroc_mean": f"AUROC, {basis.mean_of_sets}",
        "auroc_others_mean": f"AUROC, {basis.mean_of_others}",
    }
    sweep = system.recipe.sweep
    if sweep is None or not metric.endswith(MEAN_OVER_SWEEP):
        return {**METRIC_TITLES, **means}.get(metric, metric)
    values = ", ".join(f"{value:g}" if isinstance(value, float) else value for value in sweep.values)
    whole = load_recipe(system.recipe.name).sweep
    part = f" ({len(sweep.values)} of {len(whole.values)})" if whole and len(whole.values) > len(sweep.values) else ""
    return f"{metric.removesuffix(MEAN_OVER_SWEEP)}, mean over {sweep.key.split('.')[-1]} {values}{part}"


def _notes(systems: Sequence[System], target: Target, basis: Basis) -> list[str]:
    """Say what is needed to read the figures rightly: where printed ones stand, and what means and attacks are over."""
    notes = []
    places = {figure.where.split(":")[0] for system in systems for figure in system.recipe.published}
    own = target.title.split(":")[0]
    if elsewhere := sorted(place for place in target.sections if place in places and own not in places):
        notes.append(f"Printed in {' and '.join(elsewhere)}, not in {own} itself.")
    if any(metric.startswith("accuracy_pgd") for metric in target.metrics):
        notes.append("'clean': accuracy without attack on the very images attacked.")
        if any(measured(system, "accuracy_pgd20_more", basis) is not None for system in systems):
            notes.append("PGD of 20 and of 100 steps are compared on the same images; 20 steps were tried on more too.")
    if "accuracy_corruptions_mean" in target.metrics and basis.corruptions and basis.corruptions_lacking:
        notes.append(
            f"The printed mean is over all {len(basis.corruptions) + len(basis.corruptions_lacking)} corruptions, the "
            f"measured one over those that every run has: without {', '.join(basis.corruptions_lacking)}."
        )
    if "auroc_mean" in target.metrics and basis.sets and basis.sets_lacking:
        notes.append(
            f"The printed mean is over {len(PAPER_SETS)} sets, the measured one over those of them that every row has: "
            f"without {', '.join(basis.sets_lacking)}."
        )
    return notes


def row_label(system: System) -> str:
    """Return a row's name and its recipe."""
    return f"{system.label} (`{system.recipe.name}`)"


def ood_table(collection: Collection, target: Target, scale: Scale) -> Table | None:
    """Return each row's AUROC by out-of-distribution set over its seeds, and the means over the sets all rows share.

    None if nothing was run.
    """
    systems = [system for system in systems_of(collection, target, scale) if system.runs]
    there = dict.fromkeys(name for system in systems for run in system.runs for name in run.evaluation["ood"])
    if not there:
        return None
    basis = basis_of(systems)
    rows = [[name, *(_ood_cell(system, name) for system in systems)] for name in PAPER_SETS if name in there]
    if basis.sets:
        rows.append(_mean_row(systems, "auroc_mean", basis.mean_of_sets, basis))
    rows += [[name, *(_ood_cell(system, name) for system in systems)] for name in there if name not in PAPER_SETS]
    if basis.others:
        rows.append(_mean_row(systems, "auroc_others_mean", basis.mean_of_others, basis))
    note = "In percent, of each row's own score; mean ± standard error over the seeds. Means are over sets that every "
    note += "row has and none was trained on."
    header = ["set", *(f"{system.label}, {_seeds(system)}" for system in systems)]
    return Table(f"AUROC by set (scale `{scale}`)", header, rows, " ".join(filter(None, [note, mark(scale)])))


def _mean_row(systems: Sequence[System], metric: str, title: str, basis: Basis) -> list[str]:
    found = [measured(system, metric, basis) for system in systems]
    return [title, *("-" if mean is None else mean.percent for mean in found)]


def _ood_cell(system: System, name: str) -> str:
    values = [value for run in system.runs if (value := auroc_of(run, name)) is not None]
    found = over_seeds(values)
    if found is None:
        return "-"
    some = f" ({found.seeds} of {_seeds(system)})" if found.seeds < len(system.runs) else ""
    exposed = any(name in run.evaluation.get("exposed", []) for run in system.runs)
    return found.percent + (" (trained on)" if exposed else "") + some


def _seeds(system: System) -> str:
    count = len(system.seeds)
    return f"{count} seed{'s' if count > 1 else ''}"
