"""Contestant (a): which plans there are, and that the closed loop does the work it counts."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks.service.pictures import png, textured
from benchmarks.service.raw import RawPlan, closed_loop, plans, rate
from benchmarks.service.work import Work
from tests.graphs import write_graph


def test_plans_are_those_that_the_images_in_flight_can_keep_busy() -> None:
    assert {(plan.batch, plan.runners, plan.run_threads) for plan in plans(16, cores=2)} == {
        (batch, runners, threads) for batch in (1, 4, 8) for runners, threads in ((1, 2), (2, 1))
    }
    assert {(plan.batch, plan.runners, plan.run_threads) for plan in plans(4, cores=2)} == {
        (1, 2, 1), (1, 1, 2), (4, 1, 2)
    }  # fmt: skip
    assert {(plan.batch, plan.runners, plan.run_threads) for plan in plans(1, cores=2)} == {(1, 1, 1), (1, 1, 2)}
    assert {plan.run_threads for plan in plans(16, cores=1)} == {1}


def test_on_a_gpu_a_run_has_one_thread_and_waits_without_spinning() -> None:
    on_gpu = plans(16, cores=4, batches=(1, 8, 16), cuda=True)
    assert {(plan.batch, plan.runners) for plan in on_gpu} == {(1, 1), (8, 1), (16, 1), (1, 2), (8, 2), (1, 4)}
    assert {(plan.run_threads, plan.spinning) for plan in on_gpu} == {(1, False)}
    on_many_cores = {(plan.batch, plan.runners, plan.run_threads) for plan in plans(64, cores=16, batches=(1, 32))}
    assert on_many_cores == {(1, 16, 1), (1, 2, 8), (1, 4, 4), (1, 8, 2), (32, 2, 8), (1, 1, 16), (32, 1, 16)}
    for in_flight, cores in ((1, 2), (4, 2), (16, 2), (16, 3), (64, 16)):
        found = plans(in_flight, cores)
        assert len({plan.title for plan in found}) == len(found)
        assert all(plan.batch * plan.runners <= in_flight for plan in found)


def test_the_rate_is_that_between_the_first_and_the_last() -> None:
    assert rate([0.1, 0.6, 1.1, 1.6], seconds=2) == pytest.approx(2)
    assert rate([0.5, 1.5], seconds=2) == 1
    assert rate([], seconds=2) == 0


def test_the_closed_loop_counts_what_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = write_graph(tmp_path)
    batches: list[int] = []
    run = Work.run

    def counted(self: Work, images: object) -> object:
        batches.append(len(images))  # type: ignore[arg-type]
        return run(self, images)  # type: ignore[arg-type]

    monkeypatch.setattr(Work, "run", counted)
    load = closed_loop(graph, png(textured(32, 32, 1)), RawPlan(2, 2, 1), in_flight=8, seconds=0.4)
    assert set(batches) == {2}
    assert 0 < load.answered <= 2 * len(batches)
    assert load.requests_per_second == pytest.approx(load.answered / 0.4, rel=0.5)
    # Little's law: images in flight = rate x latency. The median is below the mean where other work takes the cores.
    assert 0 < load.requests_per_second * load.p50 / 1e3 < 8 * 1.7


def test_a_plan_too_slow_for_the_time_has_done_nothing(tmp_path: Path) -> None:
    load = closed_loop(write_graph(tmp_path), png(textured(32, 32, 1)), RawPlan(1, 1, 1), in_flight=1, seconds=1e-9)
    assert (load.answered, load.requests_per_second, load.p50) == (0, 0, math.inf)
    assert json.loads(json.dumps(vars(load)))["p99"] == math.inf, "so it comes from the process that measured it"
