"""Score rows: what the graphs say of an image file, one row a file and model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple

from serving.graphs.calibration import p_values
from serving.graphs.graph import Graph
from serving.requests.answers import likeliest, number
from serving.score.pipeline import Batch, Outputs, ReadFile


class Row(NamedTuple):
    """One file and model. Where the file gave no image, ``error`` says why, and all else but path and model is None.

    ``label`` and its ``probability`` are a classifier's. Higher ``score`` is more anomalous; a score that is not finite
    is None, with the smallest p-value. ``probability`` and ``score`` are float32 values.
    """

    path: str
    model: str
    label: str | None = None
    probability: float | None = None
    score: float | None = None
    p_value: float | None = None
    is_anomaly: bool | None = None
    error: str | None = None


COLUMNS = Row._fields


def batch_rows(batch: Batch, graphs: Sequence[Graph], alpha: float) -> Iterator[tuple[ReadFile, list[Row]]]:
    """Yield each file with its rows, one a graph; ``is_anomaly`` where the p-value is <= ``alpha``."""
    of_graphs = [_verdicts(graph, outputs, alpha) for graph, outputs in zip(graphs, batch.outputs, strict=False)]
    of_images = iter(zip(*of_graphs, strict=True))
    for file in batch.files:
        path = file.path
        if file.error is not None:
            yield file, [Row(path, graph.name, error=file.error) for graph in graphs]
        else:
            yield file, [Row(path, graph.name, *cells) for graph, cells in zip(graphs, next(of_images), strict=True)]


def _verdicts(graph: Graph, outputs: Outputs, alpha: float) -> Iterator[tuple[Any, ...]]:
    """Yield label, probability, score, p-value and verdict of each image, as ``score_parts`` has them."""
    scores = outputs["anomaly_score"]
    marks = p_values(scores, graph.calibration_scores).tolist()
    nothing: tuple[None, None] = (None, None)
    best = likeliest(graph, outputs) if graph.manifest.kind == "classifier" else repeat(nothing, len(marks))
    for (label, probability), score, p in zip(best, scores.tolist(), marks, strict=True):
        yield label, probability, number(score), p, p <= alpha
