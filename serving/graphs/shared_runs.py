"""Shared runs: images of concurrent requests go through a graph together, in batches of sizes that were warmed.

A run starts as soon as one of the service's run slots is free, with what is waiting at that moment: under load requests
share runs, and an idle server makes none of them wait. A run that is alone has all the cores (``wide``), where that
pays. Where a wait pays (a GPU, which runs eight images in the time of one) ``Settings.batch_wait_ms`` bounds it, and no
image waits where there is no other request that could bring one.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

import numpy as np

from serving.graphs.graph import Graph
from serving.graphs.inference import batch_sizes
from serving.graphs.run_slots import Image, Outputs, Part, RunSlots

Observe = Callable[[int], None]


def unbounded() -> float:
    """Return how many requests there may be where nobody counts them."""
    return math.inf


class SharedRuns:
    """The runs of one graph. ``run`` is for the event loop; it holds no more images than the requests that call it.

    ``wide``, once it is set: the same graph with more threads, for a run that is alone. ``is_large``: one
    image is work for all the cores, and light runs do not count beside it. ``wait`` is how many seconds a batch that is
    not full waits for more at most, counted from its first image; ``requests`` says how many there are in all, from
    their arrival to their answers: where the queue holds some of each, none waits. ``batch`` is told the size of each
    run once the first request of it has its answer. ``waiting``: images in the queue; ``run_seconds``: how long the
    last run took.
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
        self._parts: deque[Part] = deque()

    async def run(self, images: Sequence[Image]) -> Outputs:
        """Run the graph over uint8 images ``[size, size, 3]``, one at least; outputs as of one run, ``[n, ...]`` each.

        They go in parts of warmed batch sizes, one after the other, so that requests of many images and of few take
        turns. Raises what the graph raises.
        """
        done: list[Outputs] = []
        start = 0
        while start < len(images):
            size = max(size for size in self._sizes if size <= len(images) - start)
            part = Part(list(images[start : start + size]))
            self._slots.offer(self, part)
            try:
                done.append(await part.future)
            finally:
                part.is_given_up = True
                if self._batch and part.run_images:
                    self._batch(part.run_images)
            start += size
        return done[0] if len(done) == 1 else {name: np.concatenate([one[name] for one in done]) for name in done[0]}

    # What follows is for the run slots: outcomes where they run, all else under their lock.

    @property
    def full_batches(self) -> int:
        """How many runs of the largest size are in the queue."""
        return self.waiting // self._sizes[-1]

    def add(self, part: Part) -> None:
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

    def take(self) -> list[Part]:
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

    def outcomes(self, parts: list[Part], *, is_alone: bool = False) -> list[Outputs | Exception]:
        """Run the parts together: the outputs of each. Where that fails, each alone: its outputs or its exception."""
        try:
            images = [image for part in parts for image in part.images]
            parts[0].run_images = len(images)
            batch = np.stack(images) if len(images) > 1 else images[0][np.newaxis]
            together = ((self.wide if is_alone else None) or self.graph).run(batch)
            if len(parts) == 1:
                return [together]
            ends = list(accumulate(len(part.images) for part in parts))
            return [
                {name: values[start:end] for name, values in together.items()} for start, end in pairwise((0, *ends))
            ]
        except Exception as error:
            return [error] if len(parts) == 1 else [self.outcomes([part])[0] for part in parts]
