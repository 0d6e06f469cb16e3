"""Live models: the graphs a server answers with, and how changed ones take their place while it answers.

A request works with the models that were live when it began. A reload loads, checks and warms the models folder beside
them; only where all of it is good does it take over, between two requests. What did not change is not loaded again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from serving.answers import alpha_warnings
from serving.collection import Collection, CollectionError, load_collection
from serving.graph import Graph, GraphError, load_graph
from serving.inference import batch_sizes, work
from serving.lock_file import LockError
from serving.metrics import metrics
from serving.providers import CUDA, ProviderError, available_cores
from serving.settings import Settings
from serving.shared_runs import RunSlots, SharedRuns

RELOAD_FAILURES = (CollectionError, GraphError, ProviderError, LockError, OSError)

# Pixels of an image's views from which on a run of it alone is quicker with several threads: between 4 and 36 views of
# 32 x 32 (docs/performance.md).
WIDE_WORK = 16 * 32 * 32

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModels:
    """One state of the models folder: its graphs, and the shared runs of each by its name."""

    collection: Collection
    runs: Mapping[str, SharedRuns]


class LiveModels:
    """Holds the models that are live. ``current`` is for the event loop; take it once a request."""

    def __init__(self, settings: Settings) -> None:
        """Load, check and warm the models folder. Raises CollectionError, LockError, GraphError and ProviderError."""
        self._threads_are_set = settings.threads is not None
        self._settings = settings.model_copy(update={"threads": settings.threads or 1})
        self._reloading = asyncio.Lock()
        collection = load_collection(self._settings.models, self._settings)
        self._runs = _runs_side_by_side(self._settings, collection)
        self._slots = RunSlots(self._runs)
        self.current = self._warmed(collection, {})

    async def reload(self) -> bool:
        """Load what changed in the models folder and let it take over; say whether it did.

        A folder that is not good leaves everything as it was, and the log says why.
        """
        async with self._reloading:
            before = self.current
            try:
                loaded = await asyncio.to_thread(self._changed, before)
            except RELOAD_FAILURES as error:
                logger.error("models not reloaded, the old ones go on serving: %s", error)
                metrics().reloads.labels("refused").inc()
                return False
            self.current = loaded
        old = {graph.name: graph.digest for graph in before.collection.graphs}
        new = {graph.name: graph.digest for graph in loaded.collection.graphs}
        changed = [f"{name} ({digest})" for name, digest in new.items() if old.get(name) != digest]
        gone = [name for name in old if name not in new]
        logger.info("models reloaded; new: %s; gone: %s", ", ".join(changed) or "none", ", ".join(gone) or "none")
        metrics().reloads.labels("done").inc()
        return True

    def close(self) -> None:
        """Let the threads end that run graphs."""
        self._slots.close()

    def _changed(self, before: LoadedModels) -> LoadedModels:
        collection = load_collection(self._settings.models, self._settings, before.collection.graphs)
        return self._warmed(collection, before.runs)

    def _warmed(self, collection: Collection, before: Mapping[str, SharedRuns]) -> LoadedModels:
        """Warm the graphs that have no runs yet. Raises GraphError."""
        runs: dict[str, SharedRuns] = {}
        for graph in collection.graphs:
            if graph.name in before and before[graph.name].graph is graph:
                runs[graph.name] = before[graph.name]
                continue
            wide = self._wide(graph)
            for made in (graph, wide) if wide else (graph,):
                made.warm(batch_sizes(made))
            wait = self._settings.batch_wait_ms / 1000 if graph.provider == CUDA else 0.0
            batch = metrics().batch_images.labels(graph.name).observe
            runs[graph.name] = SharedRuns(graph, self._slots, wide=wide, wait=wait, batch=batch)
        for warning in alpha_warnings(collection.default.graphs, self._settings.alpha):
            logger.warning("%s", warning)
        return LoadedModels(collection, runs)

    def _wide(self, graph: Graph) -> Graph | None:
        """The graph with all the cores of this process, where a single image of it is work for more than one."""
        cores = self._runs * (self._settings.threads or 1)
        if graph.provider == CUDA or self._threads_are_set or cores == 1 or work(graph) < WIDE_WORK:
            return None
        return load_graph(graph.path, "cpu", cores)


def _runs_side_by_side(settings: Settings, collection: Collection) -> int:
    """As many runs of one thread as there are cores; on a GPU, which one run fills, one."""
    if settings.runs is not None:
        return settings.runs
    if any(graph.provider == CUDA for graph in collection.graphs):
        return 1
    return max(1, available_cores() // (settings.threads or 1))
