"""What a soak says of workers' memory and files: single peaks do not count, growth does."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.processes import Server
from benchmarks.soak.watch import Sample, Trend, Watch


def samples(megabytes: list[float]) -> list[Sample]:
    return [Sample(float(index), value, 10) for index, value in enumerate(megabytes)]


def test_a_steady_leak_shows_whatever_the_noise() -> None:
    noise = random.Random(0)
    trend = Trend.of(samples([200 + 0.5 * index + noise.uniform(-5, 5) for index in range(100)]))
    assert trend is not None
    assert trend.slope == pytest.approx(0.5, rel=0.1)
    assert trend.growth == pytest.approx(0.5 * 99 / trend.median, rel=0.1)


def test_single_peaks_are_no_growth() -> None:
    trend = Trend.of(samples([200 + (150 if index % 7 == 3 else 0) for index in range(60)]))
    assert trend == Trend(200, 0, 0)


def test_many_samples_are_thinned_and_few_say_nothing() -> None:
    trend = Trend.of(samples([100 + 0.01 * index for index in range(5000)]))
    assert trend is not None
    assert trend.growth == pytest.approx(50 / 125, rel=0.02)
    assert Trend.of(samples([1, 2])) is None


@pytest.fixture
def worker() -> Iterator[Server]:
    """A server that is one process with ONNX Runtime loaded, and ends when its input does."""
    code = "import onnxruntime, sys; print('up', flush=True); sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdout.readline()
    yield Server(process, 0, 0.0, Path(os.devnull))
    process.stdin.close()
    process.wait()
    process.stdout.close()


def test_a_worker_is_found_and_measured(worker: Server) -> None:
    [found] = worker.workers()
    assert found.pid == worker.process.pid
    watch = Watch(worker)
    watch.look()
    watch.look(at=7)
    [[first, second]] = watch.samples.values()
    assert second.at == 7
    assert first.megabytes == pytest.approx(psutil.Process(found.pid).memory_info().rss / 1e6, rel=0.2)
    assert watch.open_files() == {found.pid: first.files}
    assert watch.problems(watch.open_files(), judged_from=0, growth_limit=0.05) == []


def test_workers_that_come_or_go_and_memory_that_grows_are_said(worker: Server) -> None:
    pid = worker.process.pid
    watch = Watch(worker)
    watch.samples = {pid: samples([100.0] * 5 + [100.0 + 2 * index for index in range(20)])}
    assert watch.problems({pid: 9}, judged_from=20, growth_limit=0.07) == []  # of five samples, by 8 MB of 134
    [grown] = watch.problems({pid: 9}, judged_from=5, growth_limit=0.05)
    assert f"worker {pid}: memory grew by" in grown
    watch.samples = {pid: samples([100, 401, 100])}
    assert watch.problems({pid: 9}, judged_from=0, growth_limit=0.05) == [
        f"worker {pid}: 401 MB resident; limit 400 MB"
    ]
    [changed] = watch.problems({pid: 9, pid + 1: 9}, judged_from=9, growth_limit=0.05)[:1]
    assert changed.startswith(f"workers [{pid}, {pid + 1}] at the beginning, [{pid}] at the end")
