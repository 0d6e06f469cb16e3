"""Live models: the graphs a server answers with, and how changed ones take their place while it answers.

A request works with the models that were live when it began. A reload loads and warms the models folder beside them and
lets it take over between two requests. What did not change is not loaded again. That the folder is good was checked
before, by the main process (serving.processes.model_check); where it cannot be loaded all the same, the old models
stay.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from serving.graphs.alarms import alpha_warnings, calibration_warnings
from serving.graphs.collection import GRAPH_FILE, Collection, CollectionError, load_collection
from serving.graphs.graph import Graph, GraphError, load_graph
from serving.graphs.inference import batch_sizes, warm_all, work
from serving.graphs.lock_file import LockError
from serving.graphs.providers import CUDA, ProviderError, available_cores
from serving.graphs.run_queue import unbounded
from serving.graphs.run_slots import RunSlots, no_decoding
from serving.graphs.session_on_own_cores import own_cores
from serving.graphs.shared_runs import SharedRuns
from serving.metrics import metrics
from serving.settings import Settings

RELOAD_FAILURES = (CollectionError, GraphError, ProviderError, LockError, OSError)

# A run that is alone has a thread for so many pixels of an image's views, so two for 4 views of 32 x 32.
WORK_A_THREAD = 2 * 32 * 32
# On so many cores the event loop runs graphs too, under load; with more it was not measured.
LOOP_CORES = 2
# A graph of so many pixels an image is large: it has its threads although a lighter run is beside it. Between 4 and 36
# views of 32 x 32; docs/performance.md has what both are good for.
LARGE_WORK = 16 * 32 * 32

logger = logging.getLogger(__name__)


def refuse_reload(log: logging.Logger, error: Exception, foreseen: tuple[type[Exception], ...]) -> None:
    """Log and count a reload that came to nothing; an error that was not ``foreseen`` with its traceback."""
    trace = None if isinstance(error, foreseen) else error
    log.error("models not reloaded, the old ones go on serving: %s", error, exc_info=trace)
    metrics().reloads.labels("refused").inc()


@dataclass(frozen=True)
class LoadedModels:
    """One state of the models folder: its graphs, and the shared runs of each by its name."""

    collection: Collection
    runs: Mapping[str, SharedRuns]


class LiveModels:
    """Holds the models that are live. ``current`` is for the event loop; take it once a request."""

    def __init__(
        self,
        settings: Settings,
        requests: Callable[[], float] = unbounded,
        decoding: Callable[[], int] = no_decoding,
    ) -> None:
        """Load, check and warm the models folder. Raises CollectionError, LockError, GraphError and ProviderError.

        ``requests``: see ``SharedRuns``; ``decoding``: see ``RunSlots``.
        """
        self._requests = requests
        self._threads_are_set = settings.threads is not None
        self._settings = settings.model_copy(update={"threads": settings.threads or 1})
        self._reloading = asyncio.Lock()
        collection = self._load()
        runs = _runs_side_by_side(self._settings, collection)
        loop_runs = _fills_few_cores(self._settings, collection, runs)
        self._slots = RunSlots(runs, loop_runs=loop_runs, decoding=decoding)
        self._cores = runs * (self._settings.threads or 1)
        self.current = self._warmed(collection, {})

    def widen(self) -> None:
        """Give the graphs that profit the session for runs that are alone. Blocking; the server can answer before."""
        self._widen(self.current)

    async def reload(self) -> bool:
        """Load what changed in the models folder and let it take over; say whether it did.

        Where that fails, everything stays as it was, and the log says why.
        """
        async with self._reloading:
            before = self.current
            try:
                loaded = await asyncio.to_thread(self._changed, before)
            except Exception as error:
                refuse_reload(logger, error, RELOAD_FAILURES)
                return False
            self.current = loaded
        old = {graph.name: graph.digest for graph in before.collection.graphs}
        new = {graph.name: graph.digest for graph in loaded.collection.graphs}
        changed = [f"{name} ({digest})" for name, digest in new.items() if old.get(name) != digest]
        gone = [name for name in old if name not in new]
        logger.info("models reloaded; new: %s; gone: %s", ", ".join(changed) or "none", ", ".join(gone) or "none")
        return True

    def close(self) -> None:
        """Let the threads end that run graphs."""
        self._slots.close()

    def _load(self, known: Sequence[Graph] = ()) -> Collection:
        """Load the folder as it is now: one that is a link may lead elsewhere before all of it is read."""
        return load_collection(self._settings.models.resolve(), self._settings, known)

    def _changed(self, before: LoadedModels) -> LoadedModels:
        collection = self._load(before.collection.graphs)
        loaded = self._warmed(collection, before.runs)
        self._widen(loaded)
        return loaded

    def _warmed(self, collection: Collection, before: Mapping[str, SharedRuns]) -> LoadedModels:
        """Warm the graphs that have no runs yet. Raises GraphError."""
        kept = {name: runs for name, runs in before.items() if runs.graph in collection.graphs}
        warm_all([graph for graph in collection.graphs if graph.name not in kept], batch_sizes)
        runs = {graph.name: kept.get(graph.name) or self._shared_runs(graph) for graph in collection.graphs}
        default = collection.default.graphs
        for warning in (*alpha_warnings(default, self._settings.alpha), *calibration_warnings(default)):
            logger.warning("%s", warning)
        return LoadedModels(collection, runs)

    def _shared_runs(self, graph: Graph) -> SharedRuns:
        wait = self._settings.batch_wait_ms / 1000 if graph.provider == CUDA else 0.0
        metrics().expect_model(graph.name)
        batch = metrics().batch_images.labels(graph.name).observe
        is_large = self._wide_threads(graph) > 1 and work(graph) >= LARGE_WORK
        return SharedRuns(graph, self._slots, is_large=is_large, wait=wait, requests=self._requests, batch=batch)

    def _wide_threads(self, graph: Graph) -> int:
        """Return how many of this worker's cores an image has when its run is alone."""
        if graph.provider == CUDA or self._threads_are_set:
            return 1
        return max(1, min(self._cores, work(graph) // WORK_A_THREAD))

    def _own_cores(self, threads: int) -> list[int]:
        """Return a core for each thread of a run that is alone; none where other workers have cores of this machine."""
        return own_cores(threads, self._cores) if self._cores == available_cores() else []

    def _widen(self, loaded: LoadedModels) -> None:
        for runs in loaded.runs.values():
            threads = self._wide_threads(runs.graph)
            if runs.wide is not None or threads == 1:
                continue
            try:
                path = self._settings.models / runs.graph.name / GRAPH_FILE
                wide = load_graph(path, "cpu", threads, cores=self._own_cores(threads))
                wide.warm(batch_sizes(wide))
            except RELOAD_FAILURES as error:
                logger.warning("runs of %s go on with one thread each: %s", runs.graph.name, error)
                continue
            if wide.digest == runs.graph.digest:  # else the file was replaced since, and a reload will follow
                runs.wide = wide


def _runs_side_by_side(settings: Settings, collection: Collection) -> int:
    """As many runs of one thread as there are cores; on a GPU, which one run fills, one."""
    if settings.runs is not None:
        return settings.runs
    if _is_on_gpu(collection):
        return 1
    return max(1, available_cores() // (settings.threads or 1))


def _fills_few_cores(settings: Settings, collection: Collection, runs: int) -> bool:
    """Whether runs side by side leave the event loop no core of its own, on a machine of few."""
    return not _is_on_gpu(collection) and settings.threads == 1 and runs == available_cores() <= LOOP_CORES


def _is_on_gpu(collection: Collection) -> bool:
    return any(graph.provider == CUDA for graph in collection.graphs)
