"""Table 1's further attacks: SPSA beside PGD, AutoAttack, and which checks for masked gradients a network failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from training.recipe import Scale
from training.report.collect import Collection, Run, System
from training.report.figures_of_rows import over_seeds
from training.report.tables import Table, mark, row_label, systems_of
from training.reproduce.targets import Target

_HEADER = [
    "row",
    "SPSA",
    "20-step PGD, same images",
    "images",
    "AutoAttack",
    "clean, same images",
    "images",
    "checks for masked gradients",
    "seeds",
]
_NOTE = (
    "Accuracy in percent; mean ± standard error over the seeds. SPSA and AutoAttack are costly and have few images; a "
    "network is as robust as its strongest attack says. If SPSA, which needs no gradients, is stronger than PGD, that "
    "is a sign of masked gradients."
)

_Section = dict[str, Any]
_Find = Callable[[_Section], _Section | None]


def further_attacks_table(collection: Collection, target: Target, scale: Scale) -> Table | None:
    """Return each attacked row's accuracy under SPSA and AutoAttack and its failed checks; None if there is none."""
    rows = [
        [
            row_label(system),
            _percent(system, _spsa, "accuracy"),
            _percent(system, _spsa, "accuracy_pgd20"),
            _images(system, _spsa),
            _percent(system, _auto_attack, "accuracy"),
            _percent(system, _auto_attack, "clean_accuracy"),
            _images(system, _auto_attack),
            _checks(system),
            str(len(system.seeds)),
        ]
        for system in systems_of(collection, target, scale)
        if any(find(_attacked(run)) for run in system.runs for find in (_spsa, _auto_attack, _masking))
    ]
    if not rows:
        return None
    return Table(
        f"Further attacks and checks (scale `{scale}`)", _HEADER, rows, " ".join(filter(None, [_NOTE, mark(scale)]))
    )


def _attacked(run: Run) -> _Section:
    return run.evaluation.get("adversarial") or {}


def _spsa(section: _Section) -> _Section | None:
    return section.get("spsa")


def _auto_attack(section: _Section) -> _Section | None:
    found = section.get("auto_attack") or {}
    return found if "accuracy" in found else None


def _masking(section: _Section) -> _Section | None:
    return section.get("masking")


def _found(system: System, find: _Find) -> list[_Section]:
    return [found for run in system.runs if (found := find(_attacked(run))) is not None]


def _percent(system: System, find: _Find, key: str) -> str:
    found = _found(system, find)
    figure = over_seeds([float(section[key]) for section in found])
    if figure is None:
        return "-"
    return figure.percent + (f" ({len(found)} of {len(system.runs)} seeds)" if len(found) < len(system.runs) else "")


def _images(system: System, find: _Find) -> str:
    return ", or ".join(dict.fromkeys(str(section["count"]) for section in _found(system, find))) or "-"


def _checks(system: System) -> str:
    found = _found(system, _masking)
    failed: dict[str, int] = {}
    for section in found:
        for name, holds in section["checks"].items():
            if not holds:
                failed[name] = failed.get(name, 0) + 1
    if failed:
        return "FAIL: " + "; ".join(f"{name} ({count} of {len(found)} runs)" for name, count in failed.items())
    return "all pass" if found else "-"
