"""Scoring: many image files through graphs without a server, in the order of the files, at the speed of the graphs.

While some threads run the graphs, others read and decode the next files. On a CPU as many runs go side by side as there
are cores, each in one thread and on a few images: no thread waits for another, and what a run works on stays in the
caches. How many files are in work is bounded, and so is the memory, however many files there are.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.errors import ApiError
from serving.graphs.collection import load_selection
from serving.graphs.graph import Graph, GraphError
from serving.graphs.inference import chunk_size, work
from serving.graphs.providers import CPU, available_cores
from serving.images.fitting import Fitted
from serving.requests.decoding_room import DecodingRoom
from serving.requests.image_of_upload import fit_opened, open_upload
from serving.requests.uploads import Upload
from serving.score.turns import Turns
from serving.settings import Settings

RUNS_ON_A_GPU = 2  # one computes while the images of the other are on their way
# Images in one run on a CPU at most, and pixels of all their views: what a single-threaded run works on stays in a
# core's cache. Measured in docs/decisions/0020-images-of-a-run.md, with why a server's runs (``inference.chunk_size``)
# are smaller.
IMAGES_OF_A_RUN = 8
VIEW_PIXELS_OF_A_RUN = 36 * 32 * 32
# Files that are read, decoded and then run in one go: of a light graph four runs' worth, as changing between Python and
# the graph after each run took 3 % longer; of a heavy graph fewer, so that all cores have work.
FILES_PER_BATCH = 4 * IMAGES_OF_A_RUN
# Of all runs together: on many cores, large images take fewer runs of more threads each.
VIEW_PIXELS_AT_A_TIME = 4 * 1024 * 1024

# Bytes of a file, and when its content and what the system keeps of it (who may read it) last changed, in nanoseconds:
# with another stamp it may be another image.
Stamp = tuple[int, int, int]
Outputs = dict[str, NDArray[np.float32]]


class ReadFile(NamedTuple):
    """One file: the image in it at the size of each graph, or else the ``error`` that says why there is none."""

    path: str
    stamp: Stamp | None
    image: Fitted | None
    error: str | None


@dataclass(frozen=True)
class Batch:
    """Some files in their order, and what each graph gives for those that hold an image: [images, ...] each output."""

    files: list[ReadFile]
    outputs: list[Outputs]


class Scorer:
    """Graphs, and how they are run over many files: ``runs`` at a time, with the limits on an image of ``settings``.

    A thread works on ``batch`` files at a time.
    """

    def __init__(self, graphs: Sequence[Graph], settings: Settings, runs: int) -> None:
        self.graphs = tuple(graphs)
        self.settings = settings
        self.runs = runs
        self.batch = max(_files_of_a_batch(graph) for graph in graphs)
        self._fittings = frozenset(graph.manifest.fitting for graph in graphs)
        # For each core what a server's worker may take, so that on many cores many large images are decoded at a time.
        self._decoding = DecodingRoom(settings.max_decoding_bytes * available_cores())

    @classmethod
    def load(cls, settings: Settings, names: Sequence[str] = ()) -> Scorer:
        """Load the graphs of those names from ``settings.models``, by default those that a server runs, and warm them.

        ``settings.runs`` and ``settings.threads`` say how they are run; by default all cores have work. Raises as
        ``load_selection``, and GraphError for a graph that does not run.
        """
        threads, cores = settings.threads or 1, available_cores()
        graphs = load_selection(settings.models, settings.model_copy(update={"threads": threads}), names).graphs
        runs = settings.runs or min(_runs_at_a_time(graph, max(1, cores // threads)) for graph in graphs)
        if runs * threads < cores and not (settings.runs or settings.threads) and graphs[0].provider == CPU:
            settings = settings.model_copy(update={"threads": -(-cores // runs)})
            graphs = load_selection(settings.models, settings, names).graphs
        for graph in graphs:
            graph.warm()
        return cls(graphs, settings, runs)

    def score(self, files: Iterable[str]) -> Iterator[Batch]:
        """Yield the files in their order, with the outputs of each graph. Raises GraphError where a run fails."""
        threads, on_gpu = available_cores() + self.runs, self.graphs[0].provider != CPU
        # A GPU leaves the cores to the readers, and is to have much ready.
        turns = Turns(threads if on_gpu else self.runs)
        readers = ThreadPoolExecutor(available_cores(), thread_name_prefix="read")
        runners = ThreadPoolExecutor(self.runs, thread_name_prefix="run")

        def read(paths: Sequence[str]) -> Future[Batch]:
            with turns.turn():
                found = [self._read(path) for path in paths]
            return runners.submit(run, found)

        def run(found: list[ReadFile]) -> Batch:
            images = [file.image for file in found if file.image is not None]
            try:
                return Batch(found, [_run(graph, images) for graph in self.graphs] if images else [])
            finally:
                turns.has_run()

        pending: deque[Future[Future[Batch]]] = deque()
        try:
            for paths in _batches(files, self.batch):
                pending.append(readers.submit(read, paths))
                if len(pending) == (2 * threads if on_gpu else threads):
                    yield pending.popleft().result().result()
            while pending:
                yield pending.popleft().result().result()
        finally:
            readers.shutdown(cancel_futures=True)
            runners.shutdown(cancel_futures=True)

    def _read(self, path: str) -> ReadFile:
        limit, stamp = self.settings.max_image_bytes, None
        try:
            status = os.stat(path)
            stamp = _stamp(status)
            if not stat.S_ISREG(status.st_mode):
                folder = stat.S_ISDIR(status.st_mode)
                return ReadFile(path, stamp, None, "a folder that cannot be listed" if folder else "no regular file")
            if status.st_size > limit:
                return ReadFile(path, stamp, None, f"the file has {status.st_size} bytes; an image may have {limit}")
            data = _content(path, status.st_size)
        except OSError as error:
            return ReadFile(path, stamp, None, f"cannot be read: {error.strerror or error}")
        fitted = self._fitted(Upload(data, path))
        if isinstance(fitted, ApiError):
            return ReadFile(path, stamp, None, fitted.message)
        return ReadFile(path, stamp, fitted, None)

    def _fitted(self, upload: Upload) -> Fitted | ApiError:
        opened = open_upload(upload, 0, self.settings.max_image_pixels)
        if isinstance(opened, ApiError):
            return opened
        with self._decoding.room_for(opened.decoding_bytes):
            return fit_opened(opened, upload, 0, self._fittings)


def _content(path: str, size: int) -> bytes:
    """Read a file of about so many bytes, in half the time of ``Path.read_bytes``. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        pieces = [os.read(descriptor, size + 1)]
        if len(pieces[0]) != size:  # it has grown or shrunk, or came in part
            while piece := os.read(descriptor, 1 << 20):
                pieces.append(piece)
    finally:
        os.close(descriptor)
    return b"".join(pieces)


def current_stamp(path: str) -> Stamp | None:
    """Return the stamp of a file as it is now, None where it cannot be looked at."""
    try:
        return _stamp(os.stat(path))
    except OSError:
        return None


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def images_of_a_run(graph: Graph) -> int:
    """Return how many images go through a graph in one run, at least 1."""
    if graph.provider != CPU:
        return chunk_size(graph)
    return max(1, min(IMAGES_OF_A_RUN, VIEW_PIXELS_OF_A_RUN // work(graph)))


def _files_of_a_batch(graph: Graph) -> int:
    if graph.provider != CPU:
        return max(IMAGES_OF_A_RUN, images_of_a_run(graph))
    return max(IMAGES_OF_A_RUN, FILES_PER_BATCH * images_of_a_run(graph) // IMAGES_OF_A_RUN)


def _run(graph: Graph, images: Sequence[Fitted]) -> Outputs:
    fitting, step = graph.manifest.fitting, images_of_a_run(graph)
    try:
        runs = [
            graph.run(np.stack([image[fitting] for image in images[start : start + step]]))
            for start in range(0, len(images), step)
        ]
    except GraphError:
        raise
    except Exception as error:  # onnxruntime's exceptions share no other base; memory that is used up, say
        raise GraphError(f"{graph.path}: a run failed: {error}") from error
    return {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}


def _runs_at_a_time(graph: Graph, most: int) -> int:
    if graph.provider != CPU:
        return RUNS_ON_A_GPU
    return max(1, min(most, VIEW_PIXELS_AT_A_TIME // (images_of_a_run(graph) * work(graph))))


def _batches(files: Iterable[str], size: int) -> Iterator[list[str]]:
    remaining = iter(files)
    while batch := list(islice(remaining, size)):
        yield batch
