from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from serving.graphs import run_slots
from serving.graphs.graph import Graph, load_graph
from serving.graphs.inference import batch_sizes
from serving.graphs.run_slots import Outputs, RunSlots, nothing
from serving.graphs.shared_runs import SharedRuns
from tests.graphs import solid, write_graph


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return load_graph(write_graph(tmp_path_factory.mktemp("models")), threads=1)


class Runs:
    """Shared runs of a graph whose every run waits for the gate; the batch sizes that ran."""

    def __init__(
        self,
        graph: Graph,
        monkeypatch: pytest.MonkeyPatch,
        slots: int = 1,
        wait: float = 0.0,
        decoding: Callable[[], int] = nothing,
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


def expected(graph: Graph, greys: list[int]) -> NDArray[np.float32]:
    return np.concatenate([graph.run(solid(grey)[None])["anomaly_score"] for grey in greys])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(14, 255), min_size=1, max_size=19), min_size=1, max_size=12), st.integers(1, 3))
def test_every_request_gets_its_own_outputs_in_warmed_batches(
    graph: Graph, requests: list[list[int]], slots: int
) -> None:
    wanted = [expected(graph, greys) for greys in requests]
    with pytest.MonkeyPatch.context() as patch:
        runs = Runs(graph, patch, slots)
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
    runs = Runs(graph, monkeypatch)
    runs.all_at_once(*[[grey] for grey in range(20, 31)])
    assert runs.sizes == [1, 4, 4, 2]


def test_a_large_request_lets_others_in_between(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(graph, monkeypatch)
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
    runs = Runs(graph, monkeypatch)
    first, good, bad, other = runs.all_at_once([20], [21], [13], [22, 23])
    assert isinstance(bad, MemoryError)
    assert isinstance(first, dict)
    for outcome, greys in ((good, [21]), (other, [22, 23])):
        assert isinstance(outcome, dict)
        np.testing.assert_allclose(outcome["anomaly_score"], expected(graph, greys), rtol=1e-5)
    after = asyncio.run(runs.shared.run([solid(50)]))
    np.testing.assert_allclose(after["anomaly_score"], expected(graph, [50]), rtol=1e-5)


def test_a_request_that_is_given_up_is_not_run(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(graph, monkeypatch)

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
    runs = Runs(graph, monkeypatch, wait=0.2)

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
    runs = Runs(graph, monkeypatch, wait=30)
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
    runs = Runs(graph, monkeypatch)
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


class Widths:
    """Shared runs of a light and a large graph, both with a wide one, and which of the four ran, in turn."""

    def __init__(self, models: Path, graph: Graph, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran: list[str] = []
        self.runs = runs
        file = write_graph(models)
        self.light = SharedRuns(graph, runs.slots)
        self.large = SharedRuns(load_graph(file, threads=1), runs.slots, is_large=True)
        self.light.wide = load_graph(file, threads=2)
        self.large.wide = load_graph(file, threads=2)
        names = {
            id(self.light.graph): "light",
            id(self.light.wide): "light, wide",
            id(self.large.graph): "large",
            id(self.large.wide): "large, wide",
        }
        run = Graph.run
        monkeypatch.setattr(Graph, "run", lambda graph, images: self.ran.append(names[id(graph)]) or run(graph, images))

    async def side_by_side(self, *order: SharedRuns) -> list[str]:
        """Run one image through each, every next one while all before it are still on; what ran."""
        self.ran.clear()
        self.runs.gate.clear()
        tasks = []
        for count, runs in enumerate(order, 1):
            tasks.append(asyncio.create_task(runs.run([solid(20)])))
            while len(self.ran) < count:
                await asyncio.sleep(0.001)
        self.runs.gate.set()
        await asyncio.gather(*tasks)
        return list(self.ran)


def test_a_run_that_is_alone_is_wide(tmp_path: Path, graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    widths = Widths(tmp_path, graph, Runs(graph, monkeypatch, slots=2), monkeypatch)
    light, large = widths.light, widths.large
    for order, ran in [
        ((light,), ["light, wide"]),
        ((large,), ["large, wide"]),
        ((light, light), ["light, wide", "light"]),
        ((large, large), ["large, wide", "large"]),
        ((large, light), ["large, wide", "light"]),
        ((light,), ["light, wide"]),
    ]:
        assert asyncio.run(widths.side_by_side(*order)) == ran


def test_no_run_is_wide_while_images_are_decoded(tmp_path: Path, graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads would wait for each other behind those that decode."""
    decoding = 1
    runs = Runs(graph, monkeypatch, slots=2, decoding=lambda: decoding)
    widths = Widths(tmp_path, graph, runs, monkeypatch)
    for one in (widths.light, widths.large):
        decoding = 1
        (beside,) = asyncio.run(widths.side_by_side(one))
        decoding = 0
        assert asyncio.run(widths.side_by_side(one)) == [f"{beside}, wide"]


@pytest.mark.parametrize("has_all_cores", [True, False])
def test_a_large_run_waits_for_a_light_one_that_has_all_the_cores(
    tmp_path: Path, graph: Graph, monkeypatch: pytest.MonkeyPatch, has_all_cores: bool
) -> None:
    widths = Widths(tmp_path, graph, Runs(graph, monkeypatch, slots=2), monkeypatch)
    if not has_all_cores:
        widths.light.wide = None

    async def large_comes_second() -> list[str]:
        widths.runs.gate.clear()
        tasks = [asyncio.create_task(widths.light.run([solid(20)]))]
        while not widths.ran:
            await asyncio.sleep(0.001)
        tasks.append(asyncio.create_task(widths.large.run([solid(21)])))
        await asyncio.sleep(0.1)
        before = list(widths.ran)
        widths.runs.gate.set()
        await asyncio.gather(*tasks)
        return before

    before = asyncio.run(large_comes_second())
    assert before == (["light, wide"] if has_all_cores else ["light", "large, wide"])
    assert widths.ran == [before[0], "large, wide"]


def test_a_light_graph_that_gets_more_threads_during_a_run_holds_up_no_large_one(
    tmp_path: Path, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths = Widths(tmp_path, graph, Runs(graph, monkeypatch, slots=2), monkeypatch)
    wide, widths.light.wide = widths.light.wide, None

    async def widened_meanwhile() -> None:
        widths.runs.gate.clear()
        light = asyncio.create_task(widths.light.run([solid(20)]))
        while not widths.ran:
            await asyncio.sleep(0.001)
        widths.light.wide = wide
        widths.runs.gate.set()
        await light
        await asyncio.wait_for(widths.large.run([solid(21)]), 30)

    asyncio.run(widened_meanwhile())
    assert widths.ran == ["light", "large, wide"]


def test_large_runs_that_waited_for_a_light_one_go_side_by_side_and_none_is_left_at_the_end(
    tmp_path: Path, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(graph, monkeypatch, slots=2)
    widths = Widths(tmp_path, graph, runs, monkeypatch)
    monkeypatch.setattr(widths.large, "_sizes", (1,))
    together, run = threading.Barrier(2, timeout=30), Graph.run

    def run_together(graph: Graph, images: NDArray[np.uint8]) -> Outputs:
        if graph is widths.large.graph:
            together.wait()
        return run(graph, images)

    monkeypatch.setattr(Graph, "run", run_together)

    async def two_wait(closing: bool) -> None:
        widths.ran.clear()
        runs.gate.clear()
        tasks = [asyncio.create_task(widths.light.run([solid(20)]))]
        while not widths.ran:
            await asyncio.sleep(0.001)
        tasks += [asyncio.create_task(widths.large.run([solid(grey)])) for grey in (21, 22)]
        await asyncio.sleep(0.05)
        assert widths.ran == ["light, wide"]
        end = asyncio.create_task(asyncio.to_thread(runs.slots.close)) if closing else None
        await asyncio.sleep(0.05)
        runs.gate.set()
        await asyncio.wait_for(asyncio.gather(*tasks, *([end] if end else [])), 30)

    for closing in (False, True):
        asyncio.run(two_wait(closing))
        assert widths.ran == ["light, wide", "large", "large"]


def test_what_waits_for_cores_gets_its_share(tmp_path: Path, graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is not wide where another graph waits already; beside a large one a light one that waits does not count."""
    widths = Widths(tmp_path, graph, Runs(graph, monkeypatch, slots=1), monkeypatch)

    async def both_wait(first: SharedRuns, second: SharedRuns) -> list[str]:
        widths.ran.clear()
        widths.runs.gate.clear()
        tasks = [asyncio.create_task(first.run([solid(20)]))]
        while not widths.ran:
            await asyncio.sleep(0.001)
        tasks += [asyncio.create_task(runs.run([solid(21)])) for runs in (first, second)]
        await asyncio.sleep(0)
        widths.runs.gate.set()
        await asyncio.gather(*tasks)
        return widths.ran[1:]

    assert asyncio.run(both_wait(widths.light, widths.large)) == ["light", "large, wide"]
    assert asyncio.run(both_wait(widths.large, widths.light)) == ["large, wide", "light, wide"]


@pytest.fixture
def one_a_run(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setattr("serving.graphs.shared_runs.batch_sizes", lambda graph: (1,))
    return Runs(graph, monkeypatch)


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many answers each turn of the event loop got."""
    sizes: list[int] = []

    def settle(ended: Sequence[Any]) -> None:
        sizes.append(len(ended))
        give(ended)

    give = run_slots._settle
    monkeypatch.setattr(run_slots, "_settle", settle)
    return sizes


def test_answers_of_quick_runs_come_together_while_as_many_wait(
    one_a_run: Runs, turns: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_slots, "QUICK_SECONDS", 60.0)
    outcomes = one_a_run.all_at_once(*[[20 + number] for number in range(15)])
    assert all(isinstance(outcome, dict) for outcome in outcomes)
    assert turns == [4, 4, 3, 1, 1, 1, 1]  # three waited when the eleventh was done


def test_no_answer_waits_for_a_slow_run(one_a_run: Runs, turns: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_slots, "QUICK_SECONDS", 0.0)
    one_a_run.all_at_once(*[[20 + number] for number in range(9)])
    assert turns == [1] * 9


def test_no_answer_waits_for_requests_that_were_given_up(
    one_a_run: Runs, turns: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_slots, "QUICK_SECONDS", 60.0)

    async def give_up() -> None:
        kept, *others = await one_a_run.held(*[[20 + number] for number in range(9)])
        for task in others:
            task.cancel()
        await asyncio.sleep(0)
        one_a_run.gate.set()
        await asyncio.wait_for(kept, 30)

    asyncio.run(give_up())
    assert (one_a_run.sizes, turns) == ([1], [1])
