"""Workloads: a task (which graph, which answer) on an image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from benchmarks.service.pictures import MEGAPIXEL, jpeg, png, textured
from serving.graphs.graph import load_graph

MODELS = Path(__file__).parents[2] / "models"


@dataclass(frozen=True)
class Task:
    """What is asked of an image: the graph ``models/MODEL/model.onnx``, at ``path`` of our service."""

    name: str
    what: str
    model: str
    path: str

    @cached_property
    def title(self) -> str:
        """Such as "anomaly score (WRN 10-1, 36 views)": of the graph that is there."""
        manifest = load_graph(self.graph, threads=1).manifest
        return f"{self.what} ({manifest.network}, {manifest.views} views)"

    @property
    def graph(self) -> Path:
        """The graph's file."""
        return MODELS / self.model / "model.onnx"


CLASSIFY = Task("classify", "light classifier", "cifar10-rotations", "/classify")
SCORE = Task("score", "anomaly score", "cifar10-transformations", "/anomaly_score")
TASKS = {task.name: task for task in (CLASSIFY, SCORE)}
IMAGES = {"png": "32 x 32 PNG", "jpeg": "1-megapixel JPEG"}


@dataclass(frozen=True)
class Workload:
    """A task on an image of IMAGES."""

    task: Task
    image: str

    @property
    def name(self) -> str:
        """Such as "classify-png": how the command line calls it."""
        return f"{self.task.name}-{self.image}"

    @property
    def title(self) -> str:
        """For a heading."""
        return f"{self.task.title}, {IMAGES[self.image]}"

    @property
    def data(self) -> bytes:
        """The file that is sent."""
        return image_file(self.image)


WORKLOADS = {f"{task}-{image}": Workload(TASKS[task], image) for task in TASKS for image in IMAGES}


@cache
def image_file(image: str) -> bytes:
    """Return the file called ``image`` in IMAGES."""
    return png(textured(32, 32, seed=1)) if image == "png" else jpeg(textured(*MEGAPIXEL, seed=2))
