"""Runs of a graph that a test holds until it lets them go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.graphs.graph import Graph
from serving.graphs.run_queue import Outputs
from serving.graphs.run_slots import RunSlots, no_decoding
from serving.graphs.shared_runs import SharedRuns
from tests.graphs import solid


class HeldRuns:
    """Shared runs of a graph whose every run waits for the gate; the batch sizes that ran."""

    def __init__(
        self,
        graph: Graph,
        monkeypatch: pytest.MonkeyPatch,
        slots: int = 1,
        wait: float = 0.0,
        decoding: Callable[[], int] = no_decoding,
    ) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.sizes: list[int] = []
        run = Graph.run

        def run_after_gate(graph: Graph, images: NDArray[np.uint8]) -> Outputs:
            self.entered.set()
            assert self.gate.wait(30)
            if (images == 13).all(axis=(1, 2, 3)).any():
                raise MemoryError("the device is full")
            return run(graph, images)

        monkeypatch.setattr(Graph, "run", run_after_gate)
        self.slots = RunSlots(slots, decoding=decoding)
        self.shared = SharedRuns(graph, self.slots, wait=wait, batch=self.sizes.append)

    def all_at_once(self, *requests: list[int]) -> list[Outputs | BaseException]:
        """Send requests of solid images, all but the first while that one is kept running; the outcome of each."""

        async def send() -> list[Outputs | BaseException]:
            tasks = await self.held(*requests)
            self.gate.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

        return asyncio.run(send())

    async def held(self, *requests: list[int]) -> list[asyncio.Task[Outputs]]:
        """Close the gate and send requests, the second once the first runs; the gate stays closed."""
        self.gate.clear()
        self.entered.clear()
        tasks = []
        for greys in requests:
            tasks.append(asyncio.create_task(self.shared.run([solid(grey) for grey in greys])))
            await asyncio.sleep(0)
            assert await asyncio.to_thread(self.entered.wait, 30)
        return tasks
