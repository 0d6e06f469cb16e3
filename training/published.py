"""Measured figures by the names the recipes publish theirs under, and both side by side."""

from __future__ import annotations

from typing import Any

from training.recipe import Recipe

# What Figure 5 averages over, by the names of our sets; others are in no mean that stands beside the paper's.
PAPER_SETS = ("gaussian", "rademacher", "blobs", "textures", "svhn", "places365", "lsun", "cifar100")

DERIVED = "* follows from printed figures by arithmetic."


def with_mark(value: float, derived: bool) -> str:
    """Return a published figure for a reader: with a '*', which DERIVED explains, if the paper does not print it."""
    return f"{value}*" if derived else f"{value}"


def measured_figures(recipe: Recipe, evaluation: dict[str, Any]) -> dict[str, float]:
    """Return an evaluation's single figures as fractions, by metric name; only those that it measured.

    'accuracy' and 'error' (1 - accuracy) on clean test images, 'accuracy_pgd20' and 'accuracy_pgd100' under attack,
    'accuracy_corruptions_mean' over the corruptions that were there, 'auroc_mean' over those of PAPER_SETS that were
    there and held out, and for a model of one class 'auroc_CLASS' against the others. See ``measured_over``.
    """
    score, accuracy = evaluation["score"], evaluation["accuracy"]
    found: dict[str, float | None] = {"accuracy": accuracy, "error": None if accuracy is None else 1 - accuracy}
    for attack in ("pgd20", "pgd100"):
        found[f"accuracy_{attack}"] = evaluation.get("adversarial", {}).get(attack, {}).get("accuracy")
    found["accuracy_corruptions_mean"] = evaluation.get("corruptions", {}).get("accuracy_mean")
    if recipe.data.in_class is None:
        areas = [evaluation["ood"][name][score]["auroc"] for name in PAPER_SETS if name in held_out(evaluation)]
        found["auroc_mean"] = sum(areas) / len(areas) if areas else None
    elif evaluation["one_class"] is not None:
        found[f"auroc_{recipe.data.in_class}"] = evaluation["one_class"][score]["auroc"]
    return {metric: value for metric, value in found.items() if value is not None}


def held_out(evaluation: dict[str, Any]) -> list[str]:
    """Return the out-of-distribution sets that were measured and whose images the training never saw."""
    return [name for name in evaluation["ood"] if name not in evaluation.get("exposed", [])]


def measured_over(evaluation: dict[str, Any]) -> dict[str, str]:
    """Say in words what the means are over that are not over all that the paper averages over, by metric name."""
    corruptions, over = evaluation.get("corruptions", {}), {}
    if lacking := corruptions.get("missing"):
        over["accuracy_corruptions_mean"] = _part(len(corruptions["accuracy"]), lacking, "corruptions")
    if lacking := [name for name in PAPER_SETS if name not in held_out(evaluation)]:
        over["auroc_mean"] = _part(len(PAPER_SETS) - len(lacking), lacking, "sets")
    return over


def _part(there: int, lacking: list[str], things: str) -> str:
    return f"{there} of the {there + len(lacking)} {things}, without {', '.join(lacking)}"


def beside_published(recipe: Recipe, evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the paper's figures for the recipe, in percent, each with what was measured where that is one number.

    'measured_over' says so in words where a measured mean is over a part of what the paper's is over.
    """
    measured, over = measured_figures(recipe, evaluation), measured_over(evaluation)
    rows: list[dict[str, Any]] = []
    for figure in recipe.published:
        row = {
            "metric": figure.metric,
            "published_percent": figure.value,
            "measured_percent": round(100 * measured[figure.metric], 2) if figure.metric in measured else None,
            "where": figure.where,
            "derived": figure.derived,
        }
        if figure.metric in measured and figure.metric in over:
            row["measured_over"] = over[figure.metric]
        rows.append(row)
    return rows
