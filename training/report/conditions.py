"""What each row was measured under, over all its runs: where they differ, everything that occurs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from training.durations import duration
from training.evaluation_file import missing_in
from training.networks import network_name
from training.recipe import Scale
from training.report.collect import Collection, Run, System
from training.report.tables import Table, row_label, systems_of
from training.reproduce.targets import Target

# Libraries that decide a run's numbers, as they are called; onnxruntime-gpu is the same library.
_LIBRARIES = {"torch": "torch", "onnxruntime": "ONNX Runtime", "onnxruntime-gpu": "ONNX Runtime", "numpy": "NumPy"}
_HEADER = (
    "row",
    "network",
    "epochs",
    "training images",
    "test images",
    "trainings",
    "device: training; evaluation",
    "precision",
    "libraries at evaluation",
    "source",
    "data digest",
    "missing sets",
)


def conditions_tables(collection: Collection, target: Target, scale: Scale) -> list[Table]:
    """Return what all rows were measured under, then what each row was; none if nothing was run."""
    rows = [_row(system) for system in systems_of(collection, target, scale) if system.runs]
    if not rows:
        return []
    columns = list(zip(_HEADER, *rows, strict=True))
    alike = [column for column in columns[1:] if len(rows) > 1 and len(set(column[1:])) == 1]
    header, *lines = (list(line) for line in zip(*(each for each in columns if each not in alike), strict=True))
    shared = Table(
        f"Conditions of every row (scale `{scale}`)", ["condition", "all rows"], [list(c[:2]) for c in alike]
    )
    own = Table(f"Conditions{' by row' if alike else ''} (scale `{scale}`)", header, lines)
    return [*([shared] if alike else []), *([own] if len(header) > 1 else [])]


def _row(system: System) -> list[str]:
    recipe, runs = system.recipe, system.runs
    longest = max(float(run.training["seconds"]) for run in runs)
    before = f" after {recipe.pretraining.epochs} of pre-training" if recipe.pretraining else ""
    return [
        row_label(system),
        _network(system),
        f"{recipe.optimiser.epochs}{before}",
        _each(runs, _training_images),
        _each(runs, lambda run: _test_images(run.evaluation)),
        f"{len(runs)} x up to {duration(longest)}",
        _each(runs, _devices),
        _each(runs, precision_of),
        libraries_of(run.evaluation for run in runs),
        _each(runs, lambda run: _short(run.evaluation["conditions"]["source_revision"])),
        _each(runs, lambda run: run.training["data"]["digest"][7:19]),
        missing_of([run.evaluation for run in runs]),
    ]


def _each(runs: Iterable[Run], describe: Callable[[Run], str]) -> str:
    return ", or ".join(dict.fromkeys(map(describe, runs)))


def _network(system: System) -> str:
    """Return the network in words, e.g. 'WRN 40-2, dropout 0.3'."""
    network = system.recipe.network
    dropout = f", dropout {network.dropout:g}" if network.kind == "wide_resnet" and network.dropout else ""
    return network_name(network) + dropout


def _devices(run: Run) -> str:
    both = f"{run.training['device']}; {run.evaluation['conditions']['device']}"
    return re.sub(r"\b1 threads", "1 thread", both)  # as older runs have it


def _training_images(run: Run) -> str:
    data = run.training["data"]
    return f"{data['count']} of {data['available']} {data['name']}"


def _test_images(evaluation: dict[str, Any]) -> str:
    parts = [str(evaluation["in_distribution"]["count"])]
    corrupted, attacked = evaluation.get("corruptions", {}), evaluation.get("adversarial", {})
    if corrupted.get("origin") is not None:
        parts.append(f"{corrupted['count']} a corruption and severity, {corrupted['origin']}")
    for attack in ("pgd20", "pgd100"):
        if attack in attacked:
            found = attacked[attack]
            parts.append(f"{found['count']} under {found['steps']}-step PGD of radius {found['epsilon_255']:g}/255")
    for count, steps in dict.fromkeys((found["count"], found["steps"]) for found in attacked.get("sweep", [])):
        parts.append(f"{count} under {steps}-step PGD of each radius of the sweep")
    return "; ".join(parts)


def precision_of(run: Run) -> str:
    """Return the number format of a training: as recorded, else as the recipe's word for it came out on its device."""
    asked = run.recipe.trainer.precision
    meant = {"auto": "32-true" if run.training["device"].startswith("CPU") else "bf16-mixed"}.get(asked, asked)
    return str(run.training.get("precision", meant))


def libraries_of(evaluations: Iterable[dict[str, Any]]) -> str:
    """Return each library with every version that evaluations ran with, e.g. 'torch 2.14.1, 2.15.0; NumPy 2.4.6'."""
    found: dict[str, dict[str, None]] = {}
    for evaluation in evaluations:
        versions = evaluation["conditions"].get("libraries", {})
        for package, called in _LIBRARIES.items():
            if package in versions:
                found.setdefault(called, {})[versions[package]] = None
    return "; ".join(f"{called} {', '.join(sorted(versions))}" for called, versions in found.items()) or "not recorded"


def _short(revision: str) -> str:
    commit, plus, changes = revision.partition("+")
    return commit[:12] + plus + changes


def missing_of(evaluations: list[dict[str, Any]]) -> str:
    """Return what evaluations asked for and the data root, or the installation, lacked, and how many of them."""
    counts: dict[str, int] = {}
    for evaluation in evaluations:
        for name in missing_in(evaluation):
            counts[name] = counts.get(name, 0) + 1
    total = len(evaluations)
    said = [name if count == total else f"{name} ({count} of {total} runs)" for name, count in counts.items()]
    return ", ".join(said) or "none"
