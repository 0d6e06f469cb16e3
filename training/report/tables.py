"""The report's tables as data: rows of text, percentages with one decimal, printed beside measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training.recipe import Scale
from training.report.collect import Collection, System
from training.report.figures_of_rows import MEAN_OVER_SWEEP, longest, measured, published, state_of
from training.reproduce.sweep_display import duration
from training.reproduce.targets import Target, recipes_of

METRIC_TITLES = {
    "accuracy": "accuracy",
    "accuracy_pgd20": "accuracy, 20-step PGD",
    "accuracy_pgd100": "accuracy, 100-step PGD",
    "accuracy_corruptions_mean": "accuracy, mean over corruptions",
    "auroc_mean": "AUROC, mean over sets",
}


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
    """Return the target's single figures: printed, measured with its standard error, difference, seeds."""
    systems = systems_of(collection, target, scale)
    rows = [_row(system, metric, target) for system in systems for metric in target.metrics]
    header = ["row", "figure", "printed", "measured", "difference", "seeds", "scale"]
    note = "In percent. Measured: mean ± standard error over the seeds."
    if any(cell.endswith("*") for row in rows for cell in row):
        note += " * follows from printed figures by arithmetic."
    return Table(f"{target.title} (scale `{scale}`)", header, rows, " ".join(filter(None, [note, mark(scale)])))


def _row(system: System, metric: str, target: Target) -> list[str]:
    printed, found = published(system.recipe, metric, target), measured(system, metric)
    shown = "-" if printed is None else f"{printed.value:g}" + ("*" if printed.derived else "")
    cells = [_label(system), _metric_title(system, metric), shown]
    if found is None:
        return [*cells, state_of(system), "-", str(len(system.seeds) or "-"), system.scale]
    value = f"{100 * found.mean:.1f}"
    if found.error is not None:
        value += f" ± {100 * found.error:.1f}"
    difference = "-" if printed is None else f"{100 * found.mean - printed.value:+.1f}"
    return [*cells, value, difference, str(found.seeds), system.scale]


def _metric_title(system: System, metric: str) -> str:
    sweep = system.recipe.sweep
    if sweep is None or not metric.endswith(MEAN_OVER_SWEEP):
        return METRIC_TITLES.get(metric, metric)
    values = ", ".join(f"{value:g}" if isinstance(value, float) else value for value in sweep.values)
    return f"{metric.removesuffix(MEAN_OVER_SWEEP)}, mean over {sweep.key.split('.')[-1]} {values}"


def _label(system: System) -> str:
    return f"{system.label} (`{system.recipe.name}`)"


def conditions_table(collection: Collection, target: Target, scale: Scale) -> Table | None:
    """Return what each row was measured under; None if nothing was run."""
    rows = []
    for system in systems_of(collection, target, scale):
        if not system.runs:
            continue
        run = longest(system.runs)
        data, evaluation, inside = run.training["data"], run.evaluation, run.evaluation["in_distribution"]
        rows.append(
            [
                _label(system),
                network_name(system),
                str(run.recipe.optimiser.epochs)
                + (f" after {run.recipe.pretraining.epochs} of pre-training" if run.recipe.pretraining else ""),
                f"{data['count']} of {data['available']} {data['name']}",
                str(inside["count"]) + _also_evaluated(evaluation),
                f"{len(system.runs)} x up to {duration(run.training['seconds'])}",
                f"{run.training['device']}; {evaluation['conditions']['device']}",
                _shared([_short(found.evaluation["conditions"]["source_revision"]) for found in system.runs]),
                _shared([found.training["data"]["digest"][7:19] for found in system.runs]),
                ", ".join(missing_of(evaluation)) or "none",
            ]
        )
    header = ["row", "network", "epochs", "training images", "test images", "trainings", "device: training; evaluation"]
    header += ["source", "data digest", "missing sets"]
    return Table(f"Conditions (scale `{scale}`)", header, rows) if rows else None


def _short(revision: str) -> str:
    commit, plus, changes = revision.partition("+")
    return commit[:12] + plus + changes


def missing_of(evaluation: dict[str, Any]) -> list[str]:
    """Return what the evaluation asked for and the data root, or the installation, did not have."""
    missing = [*evaluation["missing"], *evaluation.get("corruptions", {}).get("missing", [])]
    auto_attack = evaluation.get("adversarial", {}).get("auto_attack") or {}
    return [*missing, "AutoAttack"] if "missing" in auto_attack else missing


def _also_evaluated(evaluation: dict[str, Any]) -> str:
    parts = [""]
    corrupted, attacked = evaluation.get("corruptions", {}), evaluation.get("adversarial", {})
    if corrupted.get("origin") is not None:
        parts.append(f"{corrupted['count']} a corruption and severity, {corrupted['origin']}")
    for attack in ("pgd20", "pgd100"):
        if attack in attacked:
            found = attacked[attack]
            parts.append(f"{found['count']} under {found['steps']}-step PGD of radius {found['epsilon_255']:g}/255")
    return "; ".join(parts)


def _shared(values: list[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def network_name(system: System) -> str:
    """Return the network in words, e.g. 'WRN 40-2, dropout 0.3'."""
    network = system.recipe.network
    if network.kind != "wide_resnet":
        return network.kind
    return f"WRN {network.depth}-{network.width}" + (f", dropout {network.dropout:g}" if network.dropout else "")


def ood_table(collection: Collection, target: Target, scale: Scale) -> Table | None:
    """Return each row's AUROC by out-of-distribution set, first seed, and the mean over the sets all rows share.

    None if nothing was run.
    """
    systems = [system for system in systems_of(collection, target, scale) if system.runs]
    evaluations = [system.runs[0].evaluation for system in systems]
    names = list(dict.fromkeys(name for evaluation in evaluations for name in evaluation["ood"]))
    if not names:
        return None
    exposed = {name for evaluation in evaluations for name in evaluation.get("exposed", [])}
    held_out = [name for name in names if name not in exposed and all(name in found["ood"] for found in evaluations)]
    rows = []
    for name in names:
        cells = []
        for evaluation in evaluations:
            found = evaluation["ood"].get(name)
            mark_exposed = " (trained on)" if name in evaluation.get("exposed", []) else ""
            cells.append("-" if found is None else f"{100 * found[evaluation['score']]['auroc']:.1f}{mark_exposed}")
        rows.append([name, *cells])
    if held_out:
        means = [
            sum(evaluation["ood"][name][evaluation["score"]]["auroc"] for name in held_out) / len(held_out)
            for evaluation in evaluations
        ]
        rows.append([f"mean over the {len(held_out)} sets held out of every row", *(f"{100 * m:.1f}" for m in means)])
    return Table(
        f"AUROC by set (scale `{scale}`)",
        ["set", *(system.label for system in systems)],
        rows,
        " ".join(filter(None, ["In percent, of each row's own score, its first seed.", mark(scale)])),
    )
