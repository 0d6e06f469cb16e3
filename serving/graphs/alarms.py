"""Alarms: which graphs can never raise one, and which raise them for images other than a server expects."""

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


def calibration_warnings(graphs: Sequence[Graph]) -> list[str]:
    """Say which of the graphs that answer together were calibrated on images of another name than the first one's.

    One of them was calibrated anew and the others were not.
    """
    if not graphs:
        return []
    first, *others = graphs
    expected = first.manifest.calibration.data
    return [
        f"{graph.name} is calibrated on {graph.manifest.calibration.data!r} and {first.name} on {expected!r}: on "
        "images like those of one alone, the other raises false alarms more or less often than alpha says"
        for graph in others
        if graph.manifest.calibration.data != expected
    ]


def _rounded_up(value: float) -> float:
    return math.ceil(value * 1e6 - 1e-6) / 1e6
