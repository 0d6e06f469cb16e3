"""How many test images a figure is of, in words: images of two figures that differ in number do not compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from training.report.basis import Basis
from training.report.collect import System
from training.report.figures_of_rows import attack_of, over_seeds


def images_of(system: System, metric: str, basis: Basis) -> str:
    """Return the test images of a figure, each number that occurs among the runs; '-' if there are none.

    Of an attack the accuracy without it on the same images goes with them, as a few hundred images differ by points.
    """
    if metric in ("auroc_mean", "auroc_others_mean"):
        names = basis.sets if metric == "auroc_mean" else basis.others
        return _each(system.runs, lambda run: _of_sets(run.evaluation, names))
    if metric == "accuracy_corruptions_mean":
        return _each(system.runs, lambda run: _of_corruptions(run.evaluation.get("corruptions", {})))
    if metric.startswith("accuracy_pgd"):
        attacks = [found for run in system.runs if (found := attack_of(run.evaluation, metric)) is not None]
        clean = over_seeds([attack["clean_accuracy"] for attack in attacks if "clean_accuracy" in attack])
        counts = _each(attacks, lambda attack: str(attack["count"]))
        return counts + ("" if clean is None else f"; clean {clean.percent}")
    return _each(system.runs, lambda run: str(run.evaluation["in_distribution"]["count"]))


def _of_sets(evaluation: dict[str, Any], names: Iterable[str]) -> str:
    counts = [evaluation["ood"][name]["count"] for name in names if name in evaluation["ood"]]
    inside = evaluation["in_distribution"]["count"]
    if not counts:
        return str(inside)
    few, many = min(counts), max(counts)
    return f"{inside}; {many if few == many else f'{few} to {many}'} a set"


def _of_corruptions(section: dict[str, Any]) -> str:
    return f"{section['count']} a severity" if section.get("accuracy") else ""


def _each(found: Iterable[Any], describe: Callable[[Any], str]) -> str:
    return ", or ".join(dict.fromkeys(text for item in found if (text := describe(item)))) or "-"
