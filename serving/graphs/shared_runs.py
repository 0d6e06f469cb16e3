"""Shared runs: images of concurrent requests go through a graph together, in batches of sizes that were warmed.

A run starts as soon as one of the service's run slots is free, with what is waiting at that moment: under load requests
share runs, and an idle server makes none of them wait. A run that is alone has all the cores (``wide``), where that
pays. Where a wait pays (a GPU, which runs eight images in the time of one) ``Settings.batch_wait_ms`` bounds it, and no
image waits where there is no other request that could bring one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from serving.graphs.graph import Graph
from serving.graphs.run_queue import Image, Outputs, Part, RunQueue, unbounded
from serving.graphs.run_slots import RunSlots

Observe = Callable[[int], None]


class SharedRuns(RunQueue):
    """The runs of one graph. ``run`` is for the event loop; it holds no more images than the requests that call it.

    ``batch`` is told the size of each run once the first request of it has its answer; for the rest see ``RunQueue``.
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
        super().__init__(graph, is_large=is_large, wait=wait, requests=requests)
        self._slots = slots
        self._batch = batch

    async def run(self, images: Sequence[Image]) -> Outputs:
        """Run the graph over uint8 images ``[size, size, 3]``, one at least; outputs as of one run, ``[n, ...]`` each.

        They go in parts of warmed batch sizes, one after the other, so that requests of many images and of few take
        turns. Raises what the graph raises.
        """
        done: list[Outputs] = []
        start = 0
        while start < len(images):
            size = max(size for size in self.sizes if size <= len(images) - start)
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
