"""Shared runs: images of concurrent requests go through a graph together, in batches of sizes that were warmed.

A run starts as soon as one of the service's run slots is free, with what is waiting at that moment: under load requests
share runs, and an idle server makes none of them wait. A run that is alone has all the cores (``wide``), where that
pays. Where a wait pays (a GPU, which runs eight images in the time of one), ```Settings.batch_wait_ms``` bounds it. All
bookkeeping happens on the event loop; only graphs run in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serving.graph import Graph
from serving.inference import batch_sizes

Outputs = dict[str, NDArray[np.float32]]
Image = NDArray[np.uint8]
Observe = Callable[[int], None]


class RunSlots:
    """How many runs there may be at a time, of all graphs together, each in a thread of its own."""

    def __init__(self, slots: int) -> None:
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="run")
        self._slots = self._free = slots
        self._graphs: deque[SharedRuns] = deque()

    def offer(self, graph: SharedRuns) -> None:
        """Give ``graph`` its turn after those that asked earlier."""
        if graph not in self._graphs:
            self._graphs.append(graph)
        self._start()

    def close(self) -> None:
        """Let the threads end; runs in progress finish first."""
        self._threads.shutdown()

    def _start(self) -> None:
        while self._free and self._graphs:
            graph = self._graphs.popleft()
            parts = graph.take()
            if graph.waiting and not graph.is_waiting_for_more:
                self._graphs.append(graph)
            if parts:
                is_alone = self._free == self._slots and not self._graphs
                self._free -= 1
                loop = asyncio.get_running_loop()
                self._threads.submit(self._run, loop, graph, parts, is_alone)

    def _run(self, loop: asyncio.AbstractEventLoop, graph: SharedRuns, parts: list[_Part], is_alone: bool) -> None:
        outcomes = graph.outcomes(parts, is_alone=is_alone)
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it every request
            loop.call_soon_threadsafe(self._finish, parts, outcomes)

    def _finish(self, parts: list[_Part], outcomes: list[Outputs | Exception]) -> None:
        self._free += 1
        for part, outcome in zip(parts, outcomes, strict=True):
            if part.future.done():  # its request was given up
                continue
            if isinstance(outcome, Exception):
                part.future.set_exception(outcome)
            else:
                part.future.set_result(outcome)
        self._start()


class SharedRuns:
    """The runs of one graph. ``run`` is for the event loop; it holds no more images than the requests that call it.

    ``wide`` is the same graph with a thread for each core, for runs that are alone. ``wait`` is how many seconds a
    batch that is not full waits for more at most, counted from its first image; ``batch`` is told the size of each run,
    ``queue`` how many images wait.
    """

    def __init__(
        self,
        graph: Graph,
        slots: RunSlots,
        *,
        wide: Graph | None = None,
        wait: float = 0.0,
        batch: Observe | None = None,
        queue: Observe | None = None,
    ) -> None:
        self.graph = graph
        self.waiting = 0
        self._wide = wide or graph
        self.is_waiting_for_more = False
        self._sizes = batch_sizes(graph)
        self._slots = slots
        self._wait = wait
        self._batch = batch
        self._queue = queue
        self._parts: deque[_Part] = deque()

    async def run(self, images: Sequence[Image]) -> Outputs:
        """Run the graph over uint8 images ``[size, size, 3]``, one at least; outputs as of one run, ``[n, ...]`` each.

        They go in parts of warmed batch sizes, one after the other, so that requests of many images and of few take
        turns. Raises what the graph raises.
        """
        done: list[Outputs] = []
        start = 0
        while start < len(images):
            size = self._largest(len(images) - start)
            part = _Part(list(images[start : start + size]))
            self._parts.append(part)
            self._count(size)
            self._slots.offer(self)
            try:
                done.append(await part.future)
            except asyncio.CancelledError:
                part.future.cancel()
                raise
            start += size
        return done[0] if len(done) == 1 else {name: np.concatenate([one[name] for one in done]) for name in done[0]}

    def take(self) -> list[_Part]:
        """Take the parts of the next run from the queue: as many as together make a warmed batch size.

        Given-up parts are dropped. Nothing is taken where there is none, or where waiting for more still pays.
        """
        self.is_waiting_for_more = False
        while self._parts and self._parts[0].future.done():
            self._count(-len(self._parts.popleft().images))
        if not self._parts or self._waits():
            return []
        total = best = 0
        for count, part in enumerate(self._parts, 1):
            total += 0 if part.future.done() else len(part.images)
            if total > self._sizes[-1]:
                break
            if total in self._sizes:
                best = count
        taken = [self._parts.popleft() for _ in range(best)]
        self._count(-sum(len(part.images) for part in taken))
        return [part for part in taken if not part.future.done()]

    def outcomes(self, parts: list[_Part], *, is_alone: bool = False) -> list[Outputs | Exception]:
        """Run the parts together: the outputs of each. Where that fails, each alone: its outputs or its exception."""
        try:
            images = [image for part in parts for image in part.images]
            if self._batch:
                self._batch(len(images))
            together = (self._wide if is_alone else self.graph).run(np.stack(images))
        except Exception as error:
            return [error] if len(parts) == 1 else [self.outcomes([part])[0] for part in parts]
        if len(parts) == 1:
            return [together]
        ends = np.cumsum([len(part.images) for part in parts])[:-1]
        split = {name: np.split(values, ends) for name, values in together.items()}
        return [{name: pieces[place] for name, pieces in split.items()} for place in range(len(parts))]

    def _count(self, images: int) -> None:
        self.waiting += images
        if self._queue:
            self._queue(self.waiting)

    def _largest(self, images: int) -> int:
        return max(size for size in self._sizes if size <= images)

    def _waits(self) -> bool:
        """Say whether to wait for more images, and see to it that the wait ends."""
        if not self._wait or self.waiting >= self._sizes[-1]:
            return False
        loop = asyncio.get_running_loop()
        left = self._parts[0].since + self._wait - loop.time()
        if left <= 0:
            return False
        self.is_waiting_for_more = True
        if not self._parts[0].has_timer:
            self._parts[0].has_timer = True
            loop.call_later(left, self._slots.offer, self)
        return True


@dataclass(eq=False)
class _Part:
    """Some images of one request, to be run together: as many as a warmed batch holds."""

    images: list[Image]
    future: asyncio.Future[Outputs] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    since: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    has_timer: bool = False
