"""Which runs have all the cores: those of the graph with more threads."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.graphs.graph import Graph, load_graph
from serving.graphs.run_queue import Outputs
from serving.graphs.shared_runs import SharedRuns
from tests.graphs import solid, write_graph
from tests.serving.graphs.held_runs import HeldRuns


class Widths:
    """Shared runs of a light and a large graph, both with a wide one, and which of the four ran, in turn."""

    def __init__(self, models: Path, graph: Graph, runs: HeldRuns, monkeypatch: pytest.MonkeyPatch) -> None:
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

    async def begun(self, runs: SharedRuns) -> asyncio.Task[Outputs]:
        """Close the gate, and run one image through; the run is on, and what ran before is forgotten."""
        self.ran.clear()
        self.runs.gate.clear()
        task = asyncio.create_task(runs.run([solid(20)]))
        while not self.ran:
            await asyncio.sleep(0.001)
        return task

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
    widths = Widths(tmp_path, graph, HeldRuns(graph, monkeypatch, slots=2), monkeypatch)
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
    runs = HeldRuns(graph, monkeypatch, slots=2, decoding=lambda: decoding)
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
    widths = Widths(tmp_path, graph, HeldRuns(graph, monkeypatch, slots=2), monkeypatch)
    if not has_all_cores:
        widths.light.wide = None

    async def large_comes_second() -> list[str]:
        tasks = [await widths.begun(widths.light)]
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
    widths = Widths(tmp_path, graph, HeldRuns(graph, monkeypatch, slots=2), monkeypatch)
    wide, widths.light.wide = widths.light.wide, None

    async def widened_meanwhile() -> None:
        light = await widths.begun(widths.light)
        widths.light.wide = wide
        widths.runs.gate.set()
        await light
        await asyncio.wait_for(widths.large.run([solid(21)]), 30)

    asyncio.run(widened_meanwhile())
    assert widths.ran == ["light", "large, wide"]


def test_large_runs_that_waited_for_a_light_one_go_side_by_side_and_none_is_left_at_the_end(
    tmp_path: Path, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = HeldRuns(graph, monkeypatch, slots=2)
    widths = Widths(tmp_path, graph, runs, monkeypatch)
    monkeypatch.setattr(widths.large, "sizes", (1,))
    together, run = threading.Barrier(2, timeout=30), Graph.run

    def run_together(graph: Graph, images: NDArray[np.uint8]) -> Outputs:
        if graph is widths.large.graph:
            together.wait()
        return run(graph, images)

    monkeypatch.setattr(Graph, "run", run_together)

    async def two_wait(closing: bool) -> None:
        tasks = [await widths.begun(widths.light)]
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
    widths = Widths(tmp_path, graph, HeldRuns(graph, monkeypatch, slots=1), monkeypatch)

    async def both_wait(first: SharedRuns, second: SharedRuns) -> list[str]:
        tasks = [await widths.begun(first)]
        tasks += [asyncio.create_task(runs.run([solid(21)])) for runs in (first, second)]
        await asyncio.sleep(0)
        widths.runs.gate.set()
        await asyncio.gather(*tasks)
        return widths.ran[1:]

    assert asyncio.run(both_wait(widths.light, widths.large)) == ["light", "large, wide"]
    assert asyncio.run(both_wait(widths.large, widths.light)) == ["large, wide", "light, wide"]
