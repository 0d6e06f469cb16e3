"""Run folders for the tests of the report: what training and evaluation leave there, without either."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.published import PAPER_SETS
from training.recipe import Scale
from training.recipe_files import load_recipe
from training.report.tables import Table


def write_run(
    folder: Path, recipe: str, overrides: Sequence[str] = (), *, scale: Scale = "cpu", seed: int = 0, **found: Any
) -> Path:
    """Write what training and evaluation leave in a run folder; ``found`` goes over the evaluation."""
    resolved = load_recipe(recipe, scale, list(overrides))
    evaluation: dict[str, Any] = {
        "recipe": recipe,
        "scale": scale,
        "seed": seed,
        "score": resolved.evaluation.score,
        "in_distribution": {"count": 900},
        "accuracy": 0.8,
        "one_class": None,
        "ood": {},
        "ood_mean": {},
        "exposed": [],
        "missing": [],
        "curves": {},
        "conditions": {
            "checkpoint_step": 70,
            "device": "ONNX Runtime, CPU, 1 threads",
            "source_revision": "0123456789abcdef+changes",
            "libraries": {"torch": "2.15.0", "onnxruntime": "1.31.1", "numpy": "2.4.6"},
        },
        **found,
    }
    data = {"name": resolved.data.name, "digest": "sha256:" + "ab" * 32, "available": 5000, "count": 4500}
    training = {"data": data, "step": 70, "steps": 70, "finished": True, "seconds": 600.0, "device": "CPU (x86_64)"}
    folder.mkdir(parents=True)
    for name, content in {
        "recipe": resolved.settings(),
        "training": training,
        "evaluation": evaluation,
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def mean_auroc(score: str, value: float, **sets: float) -> dict[str, Any]:
    """Return the parts of an evaluation with these AUROCs; of every set of the paper ``value`` if none is named."""
    areas = sets or dict.fromkeys(PAPER_SETS, value)
    ood = {name: {"count": 190, score: {"auroc": area}} for name, area in areas.items()}
    return {"ood_mean": {score: {"auroc": value}}, "ood": ood}


def row(table: Table, start: str, figure: str = "") -> list[str]:
    """Return the one row of a table whose first cell starts with ``start``, and whose second with ``figure``."""
    (found,) = [cells for cells in table.rows if cells[0].startswith(start) and cells[1].startswith(figure)]
    return found
