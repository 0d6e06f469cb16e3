"""An evaluation in its run folder, for those who read it without evaluating anything: its name, what it lacked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

EVALUATION_FILE = "evaluation.json"


def read_evaluation(run: Path) -> dict[str, Any] | None:
    """Return the evaluation in run folder ``run``; None if there is none, or it is damaged."""
    try:
        found = json.loads((run / EVALUATION_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def missing_in(evaluation: dict[str, Any]) -> list[str]:
    """Return what an evaluation asked for and was not there: sets and corruptions of the data root, packages."""
    missing = [*evaluation.get("missing", []), *evaluation.get("corruptions", {}).get("missing", [])]
    auto_attack = evaluation.get("adversarial", {}).get("auto_attack") or {}
    return [*missing, "AutoAttack"] if "missing" in auto_attack else missing
