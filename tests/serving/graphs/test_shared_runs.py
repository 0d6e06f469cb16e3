from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from serving.graphs.graph import Graph, load_graph
from serving.graphs.inference import batch_sizes
from serving.graphs.shared_runs import SharedRuns
from tests.graphs import solid, write_graph
from tests.serving.graphs.held_runs import HeldRuns


def expected(graph: Graph, greys: list[int]) -> NDArray[np.float32]:
    return np.concatenate([graph.run(solid(grey)[None])["anomaly_score"] for grey in greys])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(14, 255), min_size=1, max_size=19), min_size=1, max_size=12), st.integers(1, 3))
def test_every_request_gets_its_own_outputs_in_warmed_batches(
    graph: Graph, requests: list[list[int]], slots: int
) -> None:
    wanted = [expected(graph, greys) for greys in requests]
    with pytest.MonkeyPatch.context() as patch:
        runs = HeldRuns(graph, patch, slots)
        outcomes = runs.all_at_once(*requests)
        runs.slots.close()
    for outcome, scores in zip(outcomes, wanted, strict=True):
        assert isinstance(outcome, dict)
        np.testing.assert_allclose(outcome["anomaly_score"], scores, rtol=1e-5, atol=1e-6)
        assert {len(values) for values in outcome.values()} == {len(scores)}
    assert set(runs.sizes) <= set(batch_sizes(graph))
    assert sum(runs.sizes) == sum(map(len, requests))
    assert runs.shared.waiting == 0


def test_what_waits_for_a_slot_shares_the_next_run(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = HeldRuns(graph, monkeypatch)
    runs.all_at_once(*[[grey] for grey in range(20, 31)])
    assert runs.sizes == [1, 4, 4, 2]


def test_a_large_request_lets_others_in_between(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = HeldRuns(graph, monkeypatch)
    finished: list[str] = []

    async def send(name: str, count: int) -> None:
        await runs.shared.run([solid(40)] * count)
        finished.append(name)

    async def both() -> None:
        await asyncio.gather(send("large", 64), send("small", 1))

    asyncio.run(both())
    assert finished == ["small", "large"]
    assert max(runs.sizes) == batch_sizes(graph)[-1] == 4


def test_a_run_that_fails_fails_its_own_request_alone(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = HeldRuns(graph, monkeypatch)
    first, good, bad, other = runs.all_at_once([20], [21], [13], [22, 23])
    assert isinstance(bad, MemoryError)
    assert isinstance(first, dict)
    for outcome, greys in ((good, [21]), (other, [22, 23])):
        assert isinstance(outcome, dict)
        np.testing.assert_allclose(outcome["anomaly_score"], expected(graph, greys), rtol=1e-5)
    after = asyncio.run(runs.shared.run([solid(50)]))
    np.testing.assert_allclose(after["anomaly_score"], expected(graph, [50]), rtol=1e-5)


def test_a_request_that_is_given_up_is_not_run(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = HeldRuns(graph, monkeypatch)

    async def give_up() -> None:
        running, given_up, kept = await runs.held([20], [21] * 4, [22])
        given_up.cancel()
        running.cancel()
        await asyncio.sleep(0)
        runs.gate.set()
        await kept

    asyncio.run(give_up())
    assert runs.sizes == [1, 1]
    assert runs.shared.waiting == 0


def test_a_wait_for_more_is_bounded_and_ends_when_the_batch_is_full(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = HeldRuns(graph, monkeypatch, wait=0.2)

    async def timed(work: Coroutine[Any, Any, Any]) -> float:
        loop = asyncio.get_running_loop()
        started = loop.time()
        await work
        return loop.time() - started

    async def together(*counts: int) -> None:
        await asyncio.gather(*(runs.shared.run([solid(20)] * count) for count in counts))

    assert asyncio.run(timed(together(1, 1))) >= 0.2
    assert runs.sizes == [2]
    assert asyncio.run(timed(together(2, 2))) < 0.2
    assert runs.sizes == [2, 4]


def test_no_image_waits_where_no_other_request_could_bring_one(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = HeldRuns(graph, monkeypatch, wait=30)
    requests = 0
    runs.shared = SharedRuns(graph, runs.slots, wait=30, requests=lambda: requests, batch=runs.sizes.append)

    async def request(count: int, *, before: float = 0) -> None:
        nonlocal requests
        requests += 1
        await asyncio.sleep(before)
        await runs.shared.run([solid(20)] * count)
        requests -= 1

    async def one_after_another() -> None:
        await request(1)
        await request(2)

    async def the_second_later() -> None:
        await asyncio.gather(request(1), request(1, before=0.3))

    asyncio.run(asyncio.wait_for(one_after_another(), 10))
    assert runs.sizes == [1, 2]
    asyncio.run(asyncio.wait_for(the_second_later(), 10))  # the first waited for it, and neither any longer
    assert runs.sizes == [1, 2, 2]


def test_graphs_take_turns(tmp_path: Path, graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = HeldRuns(graph, monkeypatch)
    order: list[str] = []
    other = load_graph(write_graph(tmp_path, "views", formula="transformation"), threads=1)
    one = SharedRuns(graph, runs.slots, batch=lambda _: order.append("one"))
    two = SharedRuns(other, runs.slots, batch=lambda _: order.append("two"))

    async def both() -> None:
        [first] = await runs.held([20])
        work = [asyncio.create_task(one.run([solid(9)] * 12)), asyncio.create_task(two.run([solid(9)] * 2))]
        await asyncio.sleep(0)
        runs.gate.set()
        await asyncio.gather(first, *work)

    asyncio.run(both())
    assert order[:3] == ["one", "two", "one"]
    assert sorted(order) == ["one"] * 3 + ["two"] * 2
