"""Listing: the graphs of a models folder as a table for a terminal, the model cards in short."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from serving.collection import GRAPH_FILE, CollectionError
from serving.graph import Graph, load_graph
from serving.manifest import Manifest

_CLASSES_SHOWN = 4
_METRICS_SHOWN = 4


def load_graphs(folder: Path) -> list[Graph]:
    """Return every graph of the folder, sorted by name. Raises CollectionError where there is none, GraphError."""
    paths = sorted(folder.glob(f"*/{GRAPH_FILE}"))
    if not paths:
        raise CollectionError(f"the models folder {folder} holds no model: no NAME/{GRAPH_FILE} in it")
    return [load_graph(path) for path in paths]


def models_table(graphs: Sequence[Graph]) -> Table:
    """Return one row a graph: name and digest, kind, what it knows, its input, what was measured."""
    table = Table(box=box.SIMPLE_HEAD, show_lines=True)
    for heading in ("model", "kind", "knows", "input", "measured"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("model", "kind", "input"))
    for graph in graphs:
        manifest = graph.manifest
        table.add_row(
            f"{graph.name}\n{graph.digest[:19]}",
            manifest.kind,
            _knows(manifest),
            _input(manifest),
            _measured(manifest),
        )
    return table


def _knows(manifest: Manifest) -> str:
    if manifest.kind == "one_class":
        return f"normal: {manifest.normal}"
    shown = ", ".join(manifest.classes[:_CLASSES_SHOWN])
    more = ", ..." if len(manifest.classes) > _CLASSES_SHOWN else ""
    return f"{len(manifest.classes)} classes: {shown}{more}"


def _input(manifest: Manifest) -> str:
    size = manifest.fitting.size
    views = manifest.views
    return f"{size} x {size}\n{views} view{'s' if views > 1 else ''}"


def _measured(manifest: Manifest) -> str:
    figures = {
        name: value
        for name, value in manifest.metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    lines = [f"{name} {value:.4g}" for name, value in list(figures.items())[:_METRICS_SHOWN]]
    return "\n".join([*lines, f"calibrated on {manifest.calibration.n} of {manifest.calibration.data}"])
