from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.graphs.graph import load_graph
from serving.graphs.session_on_own_cores import SessionOnOwnCores, own_cores
from tests.graphs import solid, write_graph

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinities")


@pytest.fixture
def cores() -> list[int]:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("this machine has one core")
    return cores


@pytest.fixture(autouse=True)
def affinity() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, before)


def affinities_of_threads() -> list[set[int]]:
    return [os.sched_getaffinity(int(thread.name)) for thread in Path("/proc/self/task").iterdir()]


def test_each_thread_has_a_core_and_outputs_are_the_same(tmp_path: Path, cores: list[int]) -> None:
    path, image = write_graph(tmp_path), solid(40)[None]
    own = load_graph(path, "cpu", 2, cores=cores[:2])
    deadline = time.monotonic() + 10
    while {cores[1]} not in affinities_of_threads():  # a thread that has just begun moves there itself
        assert time.monotonic() < deadline
        time.sleep(0.01)
    plain = load_graph(path, "cpu", 2)
    for name, values in own.run(image).items():
        np.testing.assert_allclose(values, plain.run(image)[name], rtol=1e-5)
    assert os.sched_getaffinity(0) == set(cores)


@pytest.mark.parametrize("fails", [False, True])
def test_who_runs_it_is_on_the_first_core_meanwhile(cores: list[int], fails: bool) -> None:
    seen: list[set[int]] = []

    class Session:
        def run(self, names: Any, feeds: Any) -> list[Any]:
            seen.append(os.sched_getaffinity(0))
            if fails:
                raise MemoryError
            return []

    session = SessionOnOwnCores(Session(), cores[:2])
    if fails:
        with pytest.raises(MemoryError):
            session.run(None, {})
    else:
        assert session.run(None, {}) == []
    assert seen == [{cores[0]}]
    assert os.sched_getaffinity(0) == set(cores)


def test_a_core_that_is_gone_keeps_nothing_from_running(cores: list[int]) -> None:
    class Session:
        def run(self, names: Any, feeds: Any) -> list[Any]:
            return []

    assert SessionOnOwnCores(Session(), [100_000, cores[0]]).run(None, {}) == []
    assert os.sched_getaffinity(0) == set(cores)


def test_cores_are_given_where_the_process_has_all_of_them(cores: list[int]) -> None:
    count = len(cores)
    assert own_cores(2, count) == cores[:2]
    assert own_cores(count, count) == cores
    assert own_cores(1, count) == []
    assert own_cores(count + 1, count) == []
    assert own_cores(2, count - 1) == []  # a container's limit
