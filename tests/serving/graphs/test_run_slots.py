from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from serving.graphs import run_slots
from serving.graphs.graph import Graph, load_graph
from serving.graphs.run_queue import Outputs, Part
from serving.graphs.run_slots import RunSlots
from serving.graphs.shared_runs import SharedRuns
from tests.graphs import solid

BATCH = 4  # the largest run of this graph


class Watched:
    """Slots whose loop takes part, and the runs of a graph: by which thread each was, and how many were on at most."""

    def __init__(self, graph: Graph, monkeypatch: pytest.MonkeyPatch, slots: int, seconds: float = 0.002) -> None:
        self.ran_by: list[threading.Thread] = []
        self.most = 0
        self._on = 0
        self._lock = threading.Lock()
        run = Graph.run

        def watched(graph: Graph, images: NDArray[np.uint8]) -> Outputs:
            with self._lock:
                self._on += 1
                self.most = max(self.most, self._on)
                self.ran_by.append(threading.current_thread())
            time.sleep(seconds)
            try:
                return run(graph, images)
            finally:
                with self._lock:
                    self._on -= 1

        monkeypatch.setattr(Graph, "run", watched)
        self.slots = RunSlots(slots, loop_runs=True)
        self.shared = SharedRuns(graph, self.slots)

    @property
    def on_loop(self) -> int:
        """Runs of this thread, in which the tests' loops run."""
        return self.ran_by.count(threading.current_thread())

    async def load(self, requests: int) -> list[Outputs]:
        """Send so many requests of one image each, all at once."""
        return await asyncio.gather(*(self.shared.run([solid(20 + number % 200)]) for number in range(requests)))


@pytest.mark.parametrize("slots", [1, 2])
def test_under_load_the_loop_takes_the_place_of_a_thread(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, slots: int
) -> None:
    watched = Watched(graph, monkeypatch, slots)

    async def load() -> None:
        await watched.load(slots)  # so that it is known how long a run takes
        await watched.load(100)

    asyncio.run(load())
    assert watched.on_loop > 5
    assert watched.most == slots
    assert len(watched.ran_by) - watched.on_loop > (5 if slots > 1 else 0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(1, 3))
def test_every_request_gets_its_own_outputs(graph: Graph, counts: list[int], slots: int) -> None:
    requests = [[solid((30 * first + second) % 256) for second in range(count)] for first, count in enumerate(counts)]
    wanted = [graph.run(np.stack(images))["anomaly_score"] for images in requests]
    with pytest.MonkeyPatch.context() as patch:
        watched = Watched(graph, patch, slots, seconds=0.0)

        async def send() -> list[Outputs]:
            await watched.load(1)
            return await asyncio.gather(*(watched.shared.run(images) for images in requests))

        outcomes = asyncio.run(asyncio.wait_for(send(), 60))
        watched.slots.close()
    for outcome, scores in zip(outcomes, wanted, strict=True):
        np.testing.assert_allclose(outcome["anomaly_score"], scores, rtol=1e-5, atol=1e-6)
    assert watched.most <= slots
    assert watched.shared.waiting == 0


def test_the_loop_runs_nothing_where_no_full_batch_waits_for_every_slot(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(graph, monkeypatch, slots=2)

    async def few() -> None:
        await watched.load(2)
        for _ in range(10):
            await watched.load(2 + BATCH)  # of which two run alone

    asyncio.run(few())
    assert watched.on_loop == 0


def test_the_loop_gives_its_place_back(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is alone after the load has all the cores again, and two run side by side in threads."""
    watched = Watched(graph, monkeypatch, slots=2, seconds=0.01)
    wide = load_graph(graph.path, threads=2)
    watched.shared.wide = wide
    ran_wide: list[bool] = []
    run = Graph.run
    monkeypatch.setattr(Graph, "run", lambda graph, images: ran_wide.append(graph is wide) or run(graph, images))

    async def load_and_after() -> tuple[int, int]:
        await watched.load(2)
        await watched.load(60)
        on_loop = watched.on_loop
        ran_wide.clear()
        await watched.load(1)
        alone = list(ran_wide)
        watched.most = 0
        await watched.load(BATCH + 2)
        assert alone == [True]
        return on_loop, watched.on_loop

    before, after = asyncio.run(load_and_after())
    assert 0 < before == after
    assert watched.most == 2


def test_the_loop_does_no_long_run(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_slots, "LOOP_SECONDS", 0.001)
    watched = Watched(graph, monkeypatch, slots=2, seconds=0.002)
    asyncio.run(watched.load(60))
    assert watched.on_loop == 0


def test_what_comes_up_on_the_loop_goes_before_its_run(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that arrive in several turns of the loop are all offered before it runs any of them."""
    watched = Watched(graph, monkeypatch, slots=1)
    offered: list[int] = []

    async def request(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        offered.append(watched.on_loop)
        await watched.shared.run([solid(30)])

    async def load() -> None:
        await watched.load(1)
        await asyncio.gather(*(request(number // BATCH) for number in range(5 * BATCH)))

    asyncio.run(load())
    assert offered == [0] * (5 * BATCH)
    assert watched.on_loop > 0


@pytest.mark.parametrize(("row_seconds", "runs"), [(10.0, 2), (0.0, 1)])
def test_the_loop_does_runs_in_a_row_before_it_answers(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, row_seconds: float, runs: int
) -> None:
    """Two of four images make the eight answers of a row; where it has no time for two, each run is answered."""
    monkeypatch.setattr(run_slots, "ROW_SECONDS", row_seconds)
    watched = Watched(graph, monkeypatch, slots=1)
    answered_after: set[int] = set()

    async def request() -> None:
        await watched.shared.run([solid(30)])
        answered_after.add(watched.on_loop)

    async def load() -> None:
        await watched.load(1)
        await asyncio.gather(*(request() for _ in range(10 * BATCH)))

    asyncio.run(load())
    *on_loop, last = sorted(answered_after - {0})
    assert on_loop == list(range(runs, last, runs))  # the last row ends where no batch is left
    assert last >= 6


def test_a_row_takes_the_answers_of_threads_along(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go through the loop's own queue only where it does no run."""
    watched = Watched(graph, monkeypatch, slots=2)

    async def load() -> int:
        await watched.load(2)
        loop = asyncio.get_running_loop()
        woken = 0
        wake = loop.call_soon_threadsafe

        def counted(*given: Any) -> asyncio.Handle:
            nonlocal woken
            woken += 1
            return wake(*given)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        await watched.load(200)
        return woken

    woken = asyncio.run(load())
    by_threads = len(watched.ran_by) - watched.on_loop
    assert by_threads > 10
    assert woken < by_threads / 2


@pytest.mark.parametrize("slots", [1, 2])
def test_a_loop_that_ends_under_load_leaves_its_place(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, slots: int
) -> None:
    watched = Watched(graph, monkeypatch, slots)

    async def leave() -> None:
        await watched.load(1)
        tasks = [asyncio.create_task(watched.shared.run([solid(20)])) for _ in range(40)]
        while not watched.on_loop:
            await asyncio.sleep(0)
        del tasks

    asyncio.run(leave())  # which cancels what it leaves behind
    outcomes = asyncio.run(asyncio.wait_for(watched.load(40), 60))
    assert len(outcomes) == 40


def test_closed_slots_run_what_waits_and_leave_the_loop_alone(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(graph, monkeypatch, slots=2)

    async def close() -> list[Outputs]:
        await watched.load(1)
        tasks = [asyncio.create_task(watched.shared.run([solid(20)])) for _ in range(40)]
        while not watched.on_loop:
            await asyncio.sleep(0)
        before = watched.on_loop
        watched.slots.close()
        assert watched.shared.waiting == 0
        outcomes = await asyncio.gather(*tasks)
        assert watched.on_loop == before
        return outcomes

    assert len(asyncio.run(asyncio.wait_for(close(), 60))) == 40


class GivenUpLate(Part):
    """A part whose request is given up between two looks at it: at the third."""

    looks = 0

    def __getattribute__(self, name: str) -> Any:
        if name == "is_given_up":
            type(self).looks += 1
            return type(self).looks > 2
        return super().__getattribute__(name)


def test_what_waits_behind_a_part_given_up_just_then_is_run(graph: Graph) -> None:
    async def outcome() -> Outputs:
        slots = RunSlots(1)
        shared = SharedRuns(graph, slots)
        with slots._changed:  # both are there when the thread looks
            slots.offer(shared, GivenUpLate([solid(0)] * BATCH))
            waiting = Part([solid(0)])
            slots.offer(shared, waiting)
        try:
            return await asyncio.wait_for(waiting.future, 5)
        finally:
            slots.close()

    assert asyncio.run(outcome())["anomaly_score"].shape == (1,)
    assert GivenUpLate.looks > 2
