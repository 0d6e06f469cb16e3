"""When answers go back to their requests: several in one turn of the event loop, and none held without need."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from serving.graphs import run_slots
from serving.graphs.graph import Graph
from tests.serving.graphs.held_runs import HeldRuns


@pytest.fixture
def one_a_run(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> HeldRuns:
    monkeypatch.setattr("serving.graphs.run_queue.batch_sizes", lambda graph: (1,))
    return HeldRuns(graph, monkeypatch)


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
    one_a_run: HeldRuns, turns: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_slots, "QUICK_SECONDS", 60.0)
    outcomes = one_a_run.all_at_once(*[[20 + number] for number in range(15)])
    assert all(isinstance(outcome, dict) for outcome in outcomes)
    assert turns == [4, 4, 3, 1, 1, 1, 1]  # three waited when the eleventh was done


def test_no_answer_waits_for_a_slow_run(one_a_run: HeldRuns, turns: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_slots, "QUICK_SECONDS", 0.0)
    one_a_run.all_at_once(*[[20 + number] for number in range(9)])
    assert turns == [1] * 9


def test_no_answer_waits_for_requests_that_were_given_up(
    one_a_run: HeldRuns, turns: list[int], monkeypatch: pytest.MonkeyPatch
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
