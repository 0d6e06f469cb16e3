"""An evaluation as tables for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from training.attacks.in_words import attack_lines
from training.corruptions.in_words import corruption_lines
from training.detectors import TITLES
from training.evaluation import METRICS, Evaluation
from training.published import DERIVED, with_mark

METRIC_TITLES = {"auroc": "AUROC", "aupr": "AUPR", "fpr95": "FPR95"}


def main_detectors(evaluation: Evaluation) -> list[str]:
    """Return the detectors to show in full: the baseline (for a classifier) and the graph's own score."""
    if evaluation["kind"] == "one_class":
        return [evaluation["score"]]
    return ["msp", "kl" if evaluation["score"] == "msp" else evaluation["score"]]


def percent(value: float | None) -> str:
    """Return a fraction as a percentage with one decimal, '-' for None."""
    return "-" if value is None else f"{100 * value:.1f}"


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print headline figures, the out-of-distribution table and published figures beside measured ones, in percent."""
    for line in headlines(evaluation):
        console.print(line, highlight=False, markup=False)
    detectors = main_detectors(evaluation)
    if evaluation["ood"]:
        shown = [f"{TITLES[name]} {METRIC_TITLES[metric]}" for name in detectors for metric in METRICS]
        table = Table("out of distribution", "images", *shown, title=f"{evaluation['recipe']}, in percent")
        for name, row in evaluation["ood"].items():
            cells = [percent(row[detector][metric]) for detector in detectors for metric in METRICS]
            table.add_row(escape(name), str(row["count"]), *cells)
        means = evaluation["ood_mean"]
        if means:
            table.add_section()
            table.add_row(
                "mean", "", *(percent(means[detector][metric]) for detector in detectors for metric in METRICS)
            )
        console.print(table)
        alone = ", ".join(f"{TITLES[name]} {percent(found['auroc'])}" for name, found in means.items())
        console.print(f"mean AUROC of each detector: {alone}", highlight=False, markup=False)
    for line in exposures(evaluation):
        console.print(line, highlight=False, markup=False)
    if evaluation["missing"]:
        console.print(
            f"not in the data root, hence not measured: {', '.join(evaluation['missing'])}",
            highlight=False,
            markup=False,
        )
    for figure in evaluation["published"]:
        measured = figure["measured_percent"]
        beside = "not measured by this run" if measured is None else f"measured {measured:.1f}"
        if "measured_over" in figure:
            beside += f" over {figure['measured_over']}"
        published = with_mark(figure["published_percent"], figure["derived"])
        console.print(
            f"{figure['metric']}: published {published} ({figure['where']}), {beside}", highlight=False, markup=False
        )
    if any(figure["derived"] for figure in evaluation["published"]):
        console.print(DERIVED, highlight=False, markup=False)


def exposures(evaluation: Evaluation) -> list[str]:
    """Say, a sentence a set, which sets of the table are not held out."""
    return [
        f"{name} is not held out: its training images were the outliers of the training; it is not in the mean"
        for name in evaluation.get("exposed", [])
    ]


def headlines(evaluation: Evaluation) -> list[str]:
    """Return the figures that are one number each, a sentence a line, with their counts."""
    inside, alarms = evaluation["in_distribution"], evaluation["false_alarm"]
    lines = []
    if evaluation["accuracy"] is not None:
        lines.append(f"accuracy {percent(evaluation['accuracy'])} % on {inside['count']} test images")
    one_class = evaluation["one_class"]
    if one_class is not None:
        heads = [f"{TITLES[name]} {percent(value['auroc'])}" for name, value in one_class.items() if name in TITLES]
        lines.append(
            f"AUROC of {one_class['in_count']} {inside['in_class']} test images against {one_class['out_count']} of "
            f"other classes, in percent: {', '.join(heads)}"
        )
    lines.append(
        f"false alarms at alpha {alarms['alpha']}: {percent(alarms['rate'])} % of {alarms['count']} normal test images "
        f"(calibrated on {alarms['calibration_n']}, {alarms['calibration_split']})"
    )
    return lines + corruption_lines(evaluation) + attack_lines(evaluation)
