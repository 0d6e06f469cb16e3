"""The paper's figures as plots: attack strength, corruptions, label corruption, ROC curves and score histograms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from training.report.collect import Run, System
from training.report.figures_of_rows import standard_error

COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f")
_PANEL = (4.2, 3.2)  # inches
_COLUMNS = 3

Plot = Callable[[Sequence[System]], Figure | None]


def attack_strength(systems: Sequence[System]) -> Figure | None:
    """Figure 2: accuracy over the radius of the attack, mean over seeds."""
    curves = {system.label: _attack_curve(system) for system in systems}
    return _lines({"": curves}, "radius of the attack, x/255", "accuracy, %")


def _attack_curve(system: System) -> dict[float, list[float]]:
    points: dict[float, list[float]] = {}
    for run in system.runs:
        for attack in run.evaluation.get("adversarial", {}).get("sweep", []):
            points.setdefault(attack["epsilon_255"], []).append(100 * attack["accuracy"])
    return points


def masked_gradients(systems: Sequence[System]) -> Figure | None:
    """The checks for masked gradients: cross entropy under PGD over its steps and over its radius, mean over seeds."""
    axes = {"steps of the attack": ("steps", "steps"), "radius of the attack, x/255": ("epsilons", "epsilon_255")}
    panels = {x: {system.label: _loss_curve(system, *keys) for system in systems} for x, keys in axes.items()}
    figure = _lines(panels, "", "cross entropy under attack")
    for axis in () if figure is None else figure.axes:
        axis.set(xlabel=axis.get_title(), xscale="log", yscale="log", title="")
    return figure


def _loss_curve(system: System, rows: str, at: str) -> dict[float, list[float]]:
    points: dict[float, list[float]] = {}
    for run in system.runs:
        for row in run.evaluation.get("adversarial", {}).get("masking", {}).get(rows, []):
            points.setdefault(float(row[at]), []).append(float(row["loss"]))
    return points


def label_corruption(systems: Sequence[System]) -> Figure | None:
    """Figure 4: error over the swept strength, a panel a data set, mean over seeds."""
    panels: dict[str, dict[str, dict[float, list[float]]]] = {}
    for system in systems:
        points: dict[float, list[float]] = {}
        for run in system.runs:
            if isinstance(run.sweep_value, int | float) and "error" in run.figures():
                points.setdefault(float(run.sweep_value), []).append(100 * run.figures()["error"])
        panels.setdefault(system.recipe.data.name, {})[system.label] = points
    figure = _lines(panels, "strength of the corruption", "error, %")
    for axis in () if figure is None else figure.axes:
        axis.set_xlim(-0.03, 1.03)  # all strengths, in each panel alike, and of a panel with one strength too
    return figure


def _lines(panels: dict[str, dict[str, dict[float, list[float]]]], x: str, y: str) -> Figure | None:
    """Draw curves, panel -> label -> x -> values of the seeds; bars are standard errors. None if there are none."""
    drawn = {title: {label: points for label, points in curves.items() if points} for title, curves in panels.items()}
    drawn = {title: curves for title, curves in drawn.items() if curves}
    if not drawn:
        return None
    figure, axes = _grid(len(drawn), wide=1.5)
    for axis, (title, curves) in zip(axes, drawn.items(), strict=True):
        for place, (label, points) in enumerate(curves.items()):
            at = sorted(points)
            means = [float(np.mean(points[value])) for value in at]
            errors = [standard_error(points[value]) or 0.0 for value in at]
            axis.errorbar(at, means, errors, label=label, color=COLOURS[place % len(COLOURS)], marker="o", markersize=3)
        axis.set(title=title, xlabel=x, ylabel=y)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    return figure


def corruption_bars(systems: Sequence[System]) -> Figure | None:
    """Figure 3: accuracy by corruption, each bar the mean over severities and seeds; none where there is no figure."""
    found = {system.label: _by_corruption(system) for system in systems}
    found = {label: bars for label, bars in found.items() if bars}
    if not found:
        return None
    names = list(dict.fromkeys(name for bars in found.values() for name in bars))
    figure = Figure(figsize=(11, 4), layout="constrained")
    axis = figure.subplots()
    width = 0.8 / len(found)
    for place, (label, bars) in enumerate(found.items()):
        at = [names.index(name) + (place - (len(found) - 1) / 2) * width for name in bars]
        heights = [float(np.mean(values)) for values in bars.values()]
        errors = [standard_error(values) or 0.0 for values in bars.values()]
        axis.bar(at, heights, width, yerr=errors, label=label, color=COLOURS[place % len(COLOURS)])
    axis.set_xticks(range(len(names)), [name.replace("_", " ") for name in names], rotation=45, ha="right", fontsize=8)
    axis.set_ylabel("accuracy, %")
    axis.legend(fontsize=8)
    return figure


def _by_corruption(system: System) -> dict[str, list[float]]:
    bars: dict[str, list[float]] = {}
    for run in system.runs:
        for name, accuracy in corruption_means(run.evaluation.get("corruptions", {})).items():
            bars.setdefault(name, []).append(100 * accuracy)
    return bars


def corruption_means(section: dict[str, Any]) -> dict[str, float]:
    """Return the accuracy under each corruption, mean over its severities, of the section 'corruptions'."""
    return {name: float(found["mean"]) for name, found in section.get("accuracy", {}).items()}


def roc_curves(systems: Sequence[System]) -> Figure | None:
    """Figure 5: a ROC curve of each row, first seed; a panel an out-of-distribution set, dashed where trained on it."""
    there = {system.label: run.evaluation for system in systems if (run := first_with_curves(system)) is not None}
    names = list(dict.fromkeys(name for found in there.values() for name in found["curves"]["true_positive_rate"]))
    if not names:
        return None
    figure, axes = _grid(len(names))
    for axis, name in zip(axes, names, strict=True):
        title = name
        for place, (label, found) in enumerate(there.items()):
            curves, exposed = found["curves"], name in found.get("exposed", [])
            if name in curves["true_positive_rate"]:
                axis.plot(
                    curves["false_positive_rate"],
                    curves["true_positive_rate"][name],
                    label=label,
                    color=COLOURS[place % len(COLOURS)],
                    linestyle="--" if exposed else "-",
                )
                title += "\n(dashed: trained on)" if exposed else ""
        axis.plot([0, 1], [0, 1], color="#999999", linewidth=0.7, linestyle=":")
        axis.set(title=title, xlabel="false positive rate", ylabel="true positive rate")
        axis.title.set_fontsize(10)
    axes[0].legend(fontsize=7)
    return figure


def score_histograms(systems: Sequence[System]) -> Figure | None:
    """Figure 5: the scores of normal images and of all sets that no row was trained on, first seed; a panel a row."""
    drawn = [(system, run.evaluation) for system in systems if (run := first_with_curves(system)) is not None]
    if not drawn:
        return None
    apart = {"normal", *(name for _, found in drawn for name in found.get("exposed", []))}
    figure, axes = _grid(len(drawn), wide=1.2)
    for axis, (system, found) in zip(axes, drawn, strict=True):
        counted = {name: np.asarray(counts) for name, counts in found["curves"]["counts"].items()}
        others = np.sum([counts for name, counts in counted.items() if name not in apart], axis=0)
        kinds = (("normal", counted["normal"]), ("out of distribution", others))
        for place, (label, counts) in enumerate(kinds):
            edges = found["curves"]["bin_edges"]
            axis.stairs(counts / counts.sum(), edges, label=label, color=COLOURS[place], fill=True, alpha=0.5)
        axis.set(title=system.label, xlabel=f"anomaly score ({system.recipe.evaluation.score})", ylabel="share")
        axis.title.set_fontsize(9)
        axis.legend(fontsize=7)
    return figure


def first_with_curves(system: System) -> Run | None:
    """Return the run of the lowest seed whose evaluation keeps curves, which older ones do not; None if none does."""
    return next((run for run in system.runs if run.evaluation.get("curves")), None)


def _grid(panels: int, wide: float = 1.0) -> tuple[Figure, list[Any]]:
    columns = min(_COLUMNS, panels)
    rows = -(-panels // columns)
    figure = Figure(figsize=(_PANEL[0] * columns * wide, _PANEL[1] * rows * wide), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[panels:]:
        spare.remove()
    return figure, axes[:panels]


@dataclass(frozen=True)
class PlotKind:
    """A plot of a target: its name in file names, its caption, the part of an evaluation it is drawn from."""

    name: str
    caption: str
    part: str
    draw: Plot


PLOTS: dict[str, tuple[PlotKind, ...]] = {
    "table-1": (
        PlotKind(
            "masking",
            "Cross entropy under PGD over its steps and over its radius, which both should raise; mean and standard "
            "error over seeds",
            "adversarial",
            masked_gradients,
        ),
    ),
    "figure-2": (
        PlotKind(
            "strength",
            "Accuracy over the attack's radius, mean and standard error over seeds",
            "adversarial",
            attack_strength,
        ),
    ),
    "figure-3": (
        PlotKind(
            "bars",
            "Accuracy by corruption, mean over the severities; mean and standard error over seeds",
            "corruptions",
            corruption_bars,
        ),
    ),
    "figure-4": (
        PlotKind(
            "curves",
            "Error over the strength of label corruption, mean and standard error over seeds",
            "accuracy",
            label_corruption,
        ),
    ),
    "figure-5": (
        PlotKind(
            "roc",
            "ROC curves by out-of-distribution set, of the first seed of each row alone; out-of-distribution is "
            "positive; dashed where a row was trained on images of the set",
            "curves",
            roc_curves,
        ),
        PlotKind(
            "scores",
            "Anomaly scores of normal images and of those of all sets that no row was trained on, of the first seed of "
            "each row alone; higher is more anomalous",
            "curves",
            score_histograms,
        ),
    ),
}
