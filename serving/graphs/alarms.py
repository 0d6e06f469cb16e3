"""Alarms: which graphs can never raise one, because alpha is below every p-value that they can give."""

from __future__ import annotations

import math
from collections.abc import Sequence

from serving.graphs.calibration import model_threshold, smallest_alpha
from serving.graphs.graph import Graph


def alpha_warnings(graphs: Sequence[Graph], alpha: float) -> list[str]:
    """Say which graphs can never raise the alarm: those whose smallest p-value is above alpha / number of graphs."""
    threshold = model_threshold(alpha, len(graphs))
    warnings = []
    for graph in graphs:
        n = graph.manifest.calibration.n
        smallest = smallest_alpha(n)
        if smallest > threshold:
            warnings.append(
                f"{graph.name} can never raise the alarm at alpha {alpha:g}: with {n} calibration scores and "
                f"{len(graphs)} model(s) that takes an alpha of at least {_rounded_up(smallest * len(graphs)):g}"
            )
    return warnings


def _rounded_up(value: float) -> float:
    return math.ceil(value * 1e6 - 1e-6) / 1e6
