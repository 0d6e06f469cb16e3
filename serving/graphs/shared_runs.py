"""Shared runs: images of concurrent requests go through a graph together, in batches of sizes that were warmed.

A run starts as soon as one of the service's run slots is free, with what is waiting at that moment: under load requests
share runs, and an idle server makes none of them wait. A run that is alone has all the cores (``wide``), where that
pays. Where a wait pays (a GPU, which runs eight images in the time of one) ``Settings.batch_wait_ms`` bounds it, and no
image waits where there is no other request that could bring one.

Answers go back to the event loop a few at a time while as many images wait: each of its turns is interpreted code that
a run beside it has driven out of the processor's caches, and costs twice what it costs warm (docs/performance.md). None
is held where a thread has nothing to run, nor for a run of more than QUICK_SECONDS.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serving.graphs.graph import Graph
from serving.graphs.inference import batch_sizes

# So many answers are delivered together, while as many images wait for a run that is as quick as this.
ANSWERS_TOGETHER = 4
QUICK_SECONDS = 0.05

Outputs = dict[str, NDArray[np.float32]]
Image = NDArray[np.uint8]
Observe = Callable[[int], None]


def unbounded() -> float:
    """Return how many requests there may be where nobody counts them."""
    return math.inf


class RunSlots:
    """Threads that run graphs, so many at a time, of all graphs together.

    A thread that is done takes what waits next by itself: between two runs it does not wait for the event loop.
    """

    def __init__(self, slots: int) -> None:
        self._changed = threading.Condition()
        self._graphs: deque[SharedRuns] = deque()  # those with something to run, in turn
        self._runs = 0  # under way
        self._large_runs = 0  # of these, runs of large graphs
        self._ended: list[_Ended] = []  # not delivered yet
        self._is_open = True
        self._threads = [threading.Thread(target=self._work, name=f"run-{n}", daemon=True) for n in range(slots)]
        for thread in self._threads:
            thread.start()

    def offer(self, graph: SharedRuns, part: _Part) -> None:
        """Give ``part`` to ``graph``, and ``graph`` its turn after those that asked earlier."""
        with self._changed:
            graph.add(part)
            if graph not in self._graphs:
                self._graphs.append(graph)
            self._changed.notify()

    def close(self) -> None:
        """End the threads; what waits is run first."""
        with self._changed:
            self._is_open = False
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            work, ended = self._next()
            _deliver(ended)
            if work is not None:
                self._run(work)
            elif not ended:
                return

    def _run(self, work: _Work) -> None:
        began = time.monotonic()
        outcomes = work.graph.outcomes(work.parts, is_alone=work.is_alone)
        with self._changed:
            work.graph.run_seconds = time.monotonic() - began
            self._runs -= 1
            self._large_runs -= work.graph.is_large
            self._ended += zip(work.parts, outcomes, strict=True)

    def _next(self) -> tuple[_Work | None, list[_Ended]]:
        """Wait for something to run, or to deliver before; neither once all is run and the slots are closed."""
        with self._changed:
            while True:
                work, pause = self._take()
                if (
                    work is not None
                    and work.graph.is_quick
                    and len(self._ended) < ANSWERS_TOGETHER <= work.graph.waiting
                ):
                    return work, []
                is_all_run = not self._is_open and not self._graphs
                if work is not None or self._ended or is_all_run:
                    ended, self._ended = self._ended, []
                    return work, ended
                self._changed.wait(pause)

    def _take(self) -> tuple[_Work | None, float | None]:
        """Take the next run, or say in how many seconds there may be one, None where only an offer brings it."""
        pause: float | None = None
        for _ in range(len(self._graphs)):
            graph = self._graphs.popleft()
            left = graph.wait_left() if self._is_open else 0.0
            if left > 0:
                self._graphs.append(graph)
                pause = left if pause is None else min(pause, left)
                continue
            parts = graph.take()
            if graph.waiting:
                self._graphs.append(graph)
            if parts:
                work = _Work(graph, parts, self._is_alone(graph))
                self._runs += 1
                self._large_runs += graph.is_large
                return work, None
        return None, pause

    def _is_alone(self, graph: SharedRuns) -> bool:
        """Whether nothing is on or waits that the next run of ``graph`` would take cores from.

        For a large graph only other large ones count: a light run beside it is soon over.
        """
        if graph.is_large:
            return not self._large_runs and not any(other.is_large for other in self._graphs)
        return not self._runs and not self._graphs


class SharedRuns:
    """The runs of one graph. ``run`` is for the event loop; it holds no more images than the requests that call it.

    ``wide``, once it is set: the same graph with more threads, for a run that is alone. ``is_large``: one
    image is work for all the cores, and light runs do not count beside it. ``wait`` is how many seconds a batch that is
    not full waits for more at most, counted from its first image; ``requests`` says how many there are in all, from
    their arrival to their answers: where the queue holds some of each, none waits. ``batch`` is told the size of each
    run. ``waiting``: images in the queue; ``run_seconds``: how long the last run took.
    """

    def __init__(
        self,
        graph: Graph,
        slots: RunSlots,
        *,
        is_large: bool = False,
        wait: float = 0.0,
        requests: Callable[[], float] = unbounded,
        batch: Observe | None = None,
    ) -> None:
        self.graph = graph
        self.is_large = is_large
        self.wide: Graph | None = None
        self.waiting = 0
        self.run_seconds = math.inf
        self._sizes = batch_sizes(graph)
        self._slots = slots
        self._wait = wait
        self._requests = requests
        self._batch = batch
        self._parts: deque[_Part] = deque()

    async def run(self, images: Sequence[Image]) -> Outputs:
        """Run the graph over uint8 images ``[size, size, 3]``, one at least; outputs as of one run, ``[n, ...]`` each.

        They go in parts of warmed batch sizes, one after the other, so that requests of many images and of few take
        turns. Raises what the graph raises.
        """
        done: list[Outputs] = []
        start = 0
        while start < len(images):
            size = max(size for size in self._sizes if size <= len(images) - start)
            part = _Part(list(images[start : start + size]))
            self._slots.offer(self, part)
            try:
                done.append(await part.future)
            finally:
                part.is_given_up = True
            start += size
        return done[0] if len(done) == 1 else {name: np.concatenate([one[name] for one in done]) for name in done[0]}

    # What follows is for the run slots: outcomes in their threads, all else under their lock.

    @property
    def is_quick(self) -> bool:
        """Whether the next run is likely to take so little time that answers may wait for it."""
        return self.run_seconds < QUICK_SECONDS

    def add(self, part: _Part) -> None:
        """Put a part at the end of the queue."""
        self._parts.append(part)
        self.waiting += len(part.images)

    def wait_left(self) -> float:
        """Return for how many seconds more images are worth waiting for.

        None where the batch is full or not begun, and where every request has its part in the queue.
        """
        if not self._wait or not self._parts or self.waiting >= self._sizes[-1]:
            return 0.0
        if self._requests() <= len(self._parts):
            return 0.0
        return self._parts[0].since + self._wait - time.monotonic()

    def take(self) -> list[_Part]:
        """Take the parts of the next run from the queue: as many as together make a warmed batch size.

        Given-up parts are dropped. Nothing is taken where there is none.
        """
        while self._parts and self._parts[0].is_given_up:
            self.waiting -= len(self._parts.popleft().images)
        total = best = 0
        for count, part in enumerate(self._parts, 1):
            total += 0 if part.is_given_up else len(part.images)
            if total > self._sizes[-1]:
                break
            if total in self._sizes:
                best = count
        taken = [self._parts.popleft() for _ in range(best)]
        self.waiting -= sum(len(part.images) for part in taken)
        return [part for part in taken if not part.is_given_up]

    def outcomes(self, parts: list[_Part], *, is_alone: bool = False) -> list[Outputs | Exception]:
        """Run the parts together: the outputs of each. Where that fails, each alone: its outputs or its exception."""
        try:
            images = [image for part in parts for image in part.images]
            if self._batch:
                self._batch(len(images))
            together = ((self.wide if is_alone else None) or self.graph).run(np.stack(images))
            if len(parts) == 1:
                return [together]
            ends = np.cumsum([len(part.images) for part in parts])[:-1]
            split = {name: np.split(values, ends) for name, values in together.items()}
            return [{name: pieces[place] for name, pieces in split.items()} for place in range(len(parts))]
        except Exception as error:
            return [error] if len(parts) == 1 else [self.outcomes([part])[0] for part in parts]


@dataclass(eq=False)
class _Part:
    """Some images of one request, to be run together: as many as a warmed batch holds."""

    images: list[Image]
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    future: asyncio.Future[Outputs] = field(init=False)
    since: float = field(default_factory=time.monotonic)
    is_given_up: bool = False

    def __post_init__(self) -> None:
        self.future = self.loop.create_future()


@dataclass(frozen=True, eq=False)
class _Work:
    """What a thread runs next: parts of a graph's queue; ``is_alone`` where it may have all the cores."""

    graph: SharedRuns
    parts: list[_Part]
    is_alone: bool


_Ended = tuple[_Part, Outputs | Exception]


def _deliver(ended: Sequence[_Ended]) -> None:
    """Give every part its outcome, on its own loop: one turn of each."""
    for loop in {part.loop for part, _ in ended}:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it every request
            loop.call_soon_threadsafe(_settle, [one for one in ended if one[0].loop is loop])


def _settle(ended: Sequence[_Ended]) -> None:
    """Give the requests of this loop their outcomes, but for those given up."""
    for part, outcome in ended:
        if part.future.done():
            continue
        if isinstance(outcome, Exception):
            part.future.set_exception(outcome)
        else:
            part.future.set_result(outcome)
