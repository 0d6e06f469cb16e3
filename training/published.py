"""Measured figures by the names the recipes publish theirs under, and both side by side."""

from __future__ import annotations

from typing import Any

from training.recipe import Recipe


def measured_figures(recipe: Recipe, evaluation: dict[str, Any]) -> dict[str, float]:
    """Return an evaluation's single figures as fractions, by metric name; only those that it measured.

    'accuracy' and 'error' (1 - accuracy) on clean test images, 'accuracy_pgd20' and 'accuracy_pgd100' under attack,
    'accuracy_corruptions_mean' over corruptions, 'auroc_mean' over out-of-distribution sets, and for a model of one
    class 'auroc_CLASS' against the others.
    """
    score, accuracy = recipe.evaluation.score, evaluation["accuracy"]
    found: dict[str, float | None] = {"accuracy": accuracy, "error": None if accuracy is None else 1 - accuracy}
    for attack in ("pgd20", "pgd100"):
        found[f"accuracy_{attack}"] = evaluation.get("adversarial", {}).get(attack, {}).get("accuracy")
    found["accuracy_corruptions_mean"] = evaluation.get("corruptions", {}).get("accuracy_mean")
    if evaluation["one_class"] is None:
        found["auroc_mean"] = evaluation["ood_mean"].get(score, {}).get("auroc")
    else:
        found[f"auroc_{recipe.data.in_class}"] = evaluation["one_class"][score]["auroc"]
    return {metric: value for metric, value in found.items() if value is not None}


def beside_published(recipe: Recipe, evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the paper's figures for the recipe, in percent, each with what was measured where that is one number."""
    measured = measured_figures(recipe, evaluation)
    return [
        {
            "metric": figure.metric,
            "published_percent": figure.value,
            "measured_percent": round(100 * measured[figure.metric], 2) if figure.metric in measured else None,
            "where": figure.where,
            "derived": figure.derived,
        }
        for figure in recipe.published
    ]
