"""Inference: fitted images through a graph, so many a run that memory stays bounded. Blocking: for worker threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from serving.graphs.graph import Graph
from serving.graphs.providers import CPU, CUDA, available_cores
from serving.images.fitting import Fitted

# Pixels of all views together that go through a network in one run: of one image of 36 views at 32 x 32 on a CPU, where
# more takes memory and is no faster, and of 16 on a GPU, where more takes gigabytes (docs/performance.md).
MAX_VIEW_PIXELS = {CPU: 36 * 32 * 32, CUDA: 16 * 36 * 32 * 32}
MAX_IMAGES = {CPU: 4, CUDA: 64}


def run_graph(graph: Graph, images: Sequence[Fitted]) -> dict[str, NDArray[np.float32]]:
    """Run a graph over one image or more, each fitted to its size; outputs as in one run, [images, ...] each."""
    fitting = graph.manifest.fitting
    step = chunk_size(graph)
    chunks = [
        graph.run(np.stack([image[fitting] for image in images[start : start + step]]))
        for start in range(0, len(images), step)
    ]
    if len(chunks) == 1:
        return chunks[0]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def chunk_size(graph: Graph) -> int:
    """Return how many images go through a graph in one run at most: a power of two, so that memory stays bounded."""
    provider = graph.provider if graph.provider in MAX_IMAGES else CPU
    room = MAX_VIEW_PIXELS[provider] // work(graph)
    return 1 << (max(1, min(room, MAX_IMAGES[provider])).bit_length() - 1)


def work(graph: Graph) -> int:
    """Return how many pixels all views of an image have together."""
    return graph.manifest.views * graph.manifest.fitting.size**2


def warm_all(graphs: Sequence[Graph], sizes: Callable[[Graph], Sequence[int]]) -> None:
    """Run blank images through each graph in batches of ``sizes(graph)``, graphs side by side. Raises GraphError."""
    with ThreadPoolExecutor(available_cores()) as threads:
        list(threads.map(lambda graph: graph.warm(sizes(graph)), graphs))


def batch_sizes(graph: Graph) -> tuple[int, ...]:
    """Return the batch sizes that a server warms and runs: 1, 2, 4 and so on to ``chunk_size``, ascending."""
    return tuple(1 << power for power in range(chunk_size(graph).bit_length()))
