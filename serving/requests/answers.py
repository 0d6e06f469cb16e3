"""Answers: from the outputs of graphs to the JSON-ready results of ``/classify``, ``/anomaly_score`` and ``/models``.

Pure functions. Every number is a Python float, and None where a graph gave one that is not finite: no answer holds NaN.
Higher scores are more anomalous; the p-value of a score that is not finite is the smallest there is (an alarm).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.graphs.calibration import model_threshold, p_value
from serving.graphs.graph import Graph

Outputs = Mapping[str, NDArray[np.float32]]
Result = dict[str, Any]

QUANTILES = 101


def classify_results(graph: Graph, outputs: Outputs, top_k: int) -> list[Result]:
    """Return one result an image: the likeliest label, and the ``min(top_k, K)`` likeliest in descending order.

    Of equal ones the first in the graph's order comes first; those that are not finite come last.
    """
    results: list[Result] = []
    for probabilities in outputs["probabilities"]:
        # In plain Python: numpy would let go of the interpreter's lock for ten numbers, and wait for it again.
        ranks = [value if math.isfinite(value) else -1.0 for value in probabilities.tolist()]
        best = sorted(range(len(ranks)), key=ranks.__getitem__, reverse=True)[:top_k]
        top = [
            {"label": graph.manifest.classes[index], "index": index, "probability": number(probabilities[index])}
            for index in best
        ]
        results.append({**top[0], "top": top})
    return results


def likeliest(graph: Graph, outputs: Outputs) -> Iterator[tuple[str, float | None]]:
    """Yield label and probability of the first of ``classify_results``: of many images in a part of its time."""
    values = outputs["probabilities"]
    best = np.where(np.isfinite(values), values, -1).argmax(axis=1)
    for index, probability in zip(best.tolist(), values[np.arange(len(best)), best].tolist(), strict=True):
        yield graph.manifest.classes[index], number(probability)


def score_parts(graph: Graph, outputs: Outputs, alpha: float, *, views: bool = False) -> list[Result]:
    """Return what one graph says of each image: score, p-value, and ``is_anomaly``, which is p-value <= alpha.

    A classifier's part also holds the two terms of its score (``rotation_loss`` None without a rotation head); a
    one-class graph's what is normal and, with ``views``, the probability of each true transformation.
    """
    parts: list[Result] = []
    for index, score in enumerate(outputs["anomaly_score"].tolist()):
        part: Result = {"model": graph.name, "digest": graph.digest}
        p = p_value(score, graph.calibration_scores)
        verdict = {"p_value": p, "calibration_n": graph.manifest.calibration.n, "is_anomaly": p <= alpha}
        if graph.manifest.kind == "classifier":
            part |= {"score": number(score), "formula": graph.manifest.score}
            part |= {"kl_uniform": number(outputs["kl_uniform"][index])}
            part |= {"rotation_loss": number(outputs["rotation_loss"][index]) if "rotation_loss" in outputs else None}
            part |= verdict
        else:
            part |= {"method": graph.manifest.method, "normal": graph.manifest.normal, "score": number(score)}
            part |= verdict
            if views and "view_probabilities" in outputs:
                part["views"] = _views(graph, outputs["view_probabilities"][index])
        parts.append(part)
    return parts


def anomaly_result(classifier: Result | None, one_class: Sequence[Result], alpha: float) -> Result:
    """Return the result of one image from the parts of all graphs that ran.

    Its ``is_anomaly``: any part has p-value <= alpha / number of parts, so that the false-alarm rate of the whole
    answer stays at alpha.
    """
    parts = [part for part in (classifier, *one_class) if part is not None]
    threshold = model_threshold(alpha, len(parts))
    alarm = any(part["p_value"] <= threshold for part in parts)
    return {"is_anomaly": alarm, "kl_rotation": classifier, "transformation": list(one_class)}


def public_manifest(graph: Graph) -> Result:
    """Return what ``GET /models`` tells of a graph: its manifest without the recipe's settings and the raw scores.

    In place of the scores stand their quantiles, from which their distribution can be drawn.
    """
    manifest = graph.manifest.model_dump(mode="json")
    manifest["recipe"].pop("settings")
    manifest["calibration"].pop("scores")
    manifest["calibration"]["quantiles"] = _quantiles(graph.calibration_scores)
    for private in ("schema_version", "libraries", "source_revision"):
        manifest.pop(private)
    return {"digest": graph.digest, **manifest}


def number(value: float | np.floating[Any]) -> float | None:
    """Return a finite number as a Python float, any other as None (JSON has no NaN)."""
    result = float(value)
    return result if math.isfinite(result) else None


def _quantiles(ascending: NDArray[np.float32]) -> list[float]:
    """Return QUANTILES evenly spaced quantiles of the scores, from the least to the greatest, to six digits."""
    levels = np.linspace(0, 1, QUANTILES)
    return [float(f"{value:.6g}") for value in np.quantile(ascending.astype(np.float64), levels).tolist()]


def _views(graph: Graph, probabilities: NDArray[np.float32]) -> Result:
    grid = graph.manifest.view_grid
    assert (
        grid is not None
    )  # a graph with view_probabilities has a grid: the manifest and the graph are checked at load
    return {
        "axes": grid.axes,
        "rotations": grid.rotations,
        "vertical": grid.vertical,
        "horizontal": grid.horizontal,
        "resizes": grid.resizes,
        "heads": grid.heads,
        "probabilities": _nested(probabilities.tolist()),
    }


def _nested(values: Any) -> Any:
    return [_nested(value) for value in values] if isinstance(values, list) else number(values)
