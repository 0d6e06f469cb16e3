"""What a sweep shows while it runs: how much is done, and how long the rest takes at the pace so far."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.training.terminals import drawn_on_a_terminal
from training.reproduce.jobs import Job
from training.reproduce.sweep_display import SweepDisplay

EPOCHS = 10


def job(seed: int) -> Job:
    return Job("cifar10-baseline", "cpu", seed)


def train(runs: Path, seed: int, epoch: float) -> None:
    """Write what a job's folder holds after so much of its EPOCHS."""
    folder = runs / job(seed).name
    folder.mkdir(exist_ok=True)
    (folder / "recipe.json").write_text(json.dumps({"optimiser": {"epochs": EPOCHS}}))
    (folder / "training.json").write_text("{}")
    (folder / "metrics.jsonl").write_text(json.dumps({"epoch": epoch}) + "\n")


def shown_after(
    runs: Path,
    seconds: float,
    monkeypatch: pytest.MonkeyPatch,
    *,
    first: dict[int, float],
    then: dict[int, float],
    waiting: int = 0,
    finished: Sequence[int] = (),
) -> str:
    """Return what a terminal shows ``seconds`` after a first look; ``first``, ``then``: epochs of the running seeds."""

    def draw() -> None:
        now = time.monotonic()
        monkeypatch.setattr("training.reproduce.sweep_display.time.monotonic", lambda: now)
        with SweepDisplay(len(first) + waiting, runs, "here") as display:
            for seed, epoch in first.items():
                train(runs, seed, epoch)
            display.show([job(seed) for seed in first], [job(100)] * waiting, [], [], 0)
            now += seconds
            for seed, epoch in then.items():
                train(runs, seed, epoch)
            running, done = [job(seed) for seed in then], [job(seed) for seed in finished]
            display.show(running, [job(100)] * waiting, [], done, 0)

    return drawn_on_a_terminal(draw)


def test_time_left_counts_what_all_running_jobs_have_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs at 90 % after 900 s: a tenth of each is left, 100 s at this pace."""
    shown = shown_after(tmp_path, 900, monkeypatch, first={0: 0, 1: 0}, then={0: 9, 1: 9})
    assert "time left not known yet" in shown
    assert "2 min left" in shown
    shown = shown_after(tmp_path, 90, monkeypatch, first={0: 0, 1: 0}, then={0: 9, 1: 9})
    assert "10 s left" in shown


def test_waiting_jobs_are_left_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One job's worth of work in 20 s, and three are left: a half of two each and two that wait."""
    shown = shown_after(tmp_path, 20, monkeypatch, first={0: 0, 1: 0}, then={0: 5, 1: 5}, waiting=2)
    assert "60 s left" in shown


def test_work_of_an_earlier_call_is_no_pace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that went on from its half, done in 10 s, and one that is at 80 % now, having begun at 50 %: 0.8 in 8 s."""
    shown = shown_after(tmp_path, 8, monkeypatch, first={0: 5, 1: 5}, then={1: 8}, finished=[0])
    assert "2 s left" in shown
