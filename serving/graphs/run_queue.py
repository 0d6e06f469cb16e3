"""The queue of a graph: images that wait for a run, and how they are put together to runs of warmed sizes."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from serving.graphs.graph import Graph
from serving.graphs.inference import batch_sizes

Outputs = dict[str, NDArray[np.float32]]
Image = NDArray[np.uint8]


@dataclass(eq=False)
class Part:
    """Some images of one request, to be run together: as many as a warmed batch holds."""

    images: list[Image]
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    future: asyncio.Future[Outputs] = field(init=False)
    since: float = field(default_factory=time.monotonic)
    is_given_up: bool = False
    run_images: int = 0  # of the run of which it is the first part

    def __post_init__(self) -> None:
        self.future = self.loop.create_future()


def unbounded() -> float:
    """Return how many requests there may be where nobody counts them."""
    return math.inf


class RunQueue:
    """What waits for the runs of one graph. Used under the lock of the run slots, but for ``outcomes``.

    ``wide``, once it is set: the same graph with more threads, for a run that is alone. ``is_large``: one
    image is work for all the cores, and light runs do not count beside it. ``wait`` is how many seconds a batch that is
    not full waits for more at most, counted from its first image; ``requests`` says how many there are in all, from
    their arrival to their answers: where the queue holds some of each, none waits. ``sizes``: the warmed batch sizes,
    ascending; ``waiting``: images in the queue; ``run_seconds``: how long the last run took.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        is_large: bool = False,
        wait: float = 0.0,
        requests: Callable[[], float] = unbounded,
    ) -> None:
        self.graph = graph
        self.is_large = is_large
        self.wide: Graph | None = None
        self.sizes = batch_sizes(graph)
        self.waiting = 0
        self.run_seconds = math.inf
        self._wait = wait
        self._requests = requests
        self._parts: deque[Part] = deque()

    @property
    def full_batches(self) -> int:
        """How many runs of the largest size are in the queue."""
        return self.waiting // self.sizes[-1]

    def add(self, part: Part) -> None:
        """Put a part at the end of the queue."""
        self._parts.append(part)
        self.waiting += len(part.images)

    def wait_left(self) -> float:
        """Return for how many seconds more images are worth waiting for.

        None where the batch is full or not begun, and where every request has its part in the queue.
        """
        if not self._wait or not self._parts or self.waiting >= self.sizes[-1]:
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
            if total > self.sizes[-1]:
                break
            if total in self.sizes:
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
