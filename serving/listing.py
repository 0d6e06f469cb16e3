"""Listing: the graphs of a models folder as a table for a terminal, the model cards in short."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from serving.graphs.collection import GRAPH_FILE, CollectionError
from serving.graphs.graph import Graph, load_graph
from serving.graphs.manifest import Manifest

_CLASSES_SHOWN = 4
_METRICS = {
    "accuracy": "accuracy",
    "one_class_auroc": "AUROC of classes",
    "ood_auroc_mean": "AUROC of sets",
    "false_alarm_rate": "false alarms",
}


def load_graphs(folder: Path) -> list[Graph]:
    """Return every graph of the folder, sorted by name. Raises CollectionError where there is none, GraphError."""
    paths = sorted(path for path in folder.glob(f"*/{GRAPH_FILE}") if path.is_file())
    if not paths:
        raise CollectionError(f"the models folder {folder} holds no model: no NAME/{GRAPH_FILE} in it")
    return [load_graph(path) for path in paths]


def models_table(graphs: Sequence[Graph]) -> Table:
    """Return one row a graph: its name, digest and kind, what it knows, what was measured."""
    table = Table(box=box.SIMPLE_HEAD, show_lines=True)
    for heading in ("model", "knows", "measured"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "model")
    for graph in graphs:
        manifest = graph.manifest
        table.add_row(
            f"{graph.name}\n{graph.digest[:19]}\n{manifest.kind}, {_input(manifest)}",
            _knows(manifest),
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
    return f"{size} x {size}, {views} view{'s' if views > 1 else ''}, {manifest.precision}"


def _measured(manifest: Manifest) -> str:
    found = [(title, manifest.metrics.get(name)) for name, title in _METRICS.items()]
    lines = [f"{title} {value:.3f}" for title, value in found if isinstance(value, float)]
    return "\n".join([*lines, f"calibrated on {manifest.calibration.n} images"])
