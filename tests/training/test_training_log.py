"""The training log and the progress it shows."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from tests.training.terminals import drawn_on_a_terminal
from training.run_folder import RunFolder
from training.training_log import TrainingBar, TrainingLog

LATEST = {"loss": 1.25, "views_per_second": 640.4}


def losses(loss: float, label: float) -> dict[str, torch.Tensor]:
    return {"loss": torch.tensor(loss, requires_grad=True), "label": torch.tensor(label)}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def lines(run: RunFolder) -> list[dict[str, float]]:
    return [json.loads(line) for line in run.metrics_path.read_text().splitlines()]


def test_a_line_has_the_means_since_the_last_one(run: RunFolder) -> None:
    log = TrainingLog(run, writes=True)
    log.add(losses(1.0, 0.5), views=64)
    log.add(losses(2.0, 0.0), views=64)
    log.write(2, 0.66666, 0.1)
    log.add(losses(4.0, 3.0), views=64)
    log.write(3, 1.0, 0.05)
    first, second = lines(run)
    assert list(first) == ["step", "epoch", "lr", "loss", "label", "views_per_second"]
    assert first.pop("views_per_second") > 0
    assert first == {"step": 2, "epoch": 0.6667, "lr": 0.1, "loss": 1.5, "label": 0.25}
    assert (second["step"], second["loss"], second["label"]) == (3, 4.0, 3.0)
    assert log.latest["loss"] == 4.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_loss_that_is_not_finite_shows(run: RunFolder, bad: float) -> None:
    log = TrainingLog(run, writes=True)
    log.add(losses(1.0, 1.0), views=1)
    assert log.finite()
    log.add(losses(1.0, bad), views=1)
    log.add(losses(1.0, 1.0), views=1)
    assert not log.finite()


def test_the_steps_graphs_are_not_kept(run: RunFolder) -> None:
    log = TrainingLog(run, writes=True)
    log.add(losses(1.0, 1.0), views=1)
    log.add(losses(1.0, 1.0), views=1)
    assert not any(total.requires_grad for total in log._sums.values())


def test_only_one_process_writes(run: RunFolder) -> None:
    log = TrainingLog(run, writes=False)
    log.add(losses(1.0, 0.5), views=1)
    log.write(1, 1.0, 0.1)
    assert not run.metrics_path.exists()
    assert log.latest["label"] == 0.5


def test_without_a_terminal_there_are_a_few_plain_lines(capfd: pytest.CaptureFixture[str]) -> None:
    with TrainingBar("[photos]", 100, 40, quiet=False) as bar:
        for step in (41, 60, 80, 100):
            bar.update(step, LATEST)
    out, err = capfd.readouterr()
    assert out == ""
    first, last = err.splitlines()
    assert first.startswith("[photos]: step 41/100, loss 1.2500, 640 views/s, ")
    assert last == "[photos]: step 100/100, loss 1.2500, 640 views/s, 0 min left"


def test_other_processes_are_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    with TrainingBar("photos", 2, 0, quiet=True) as bar:
        bar.update(1, LATEST)
        bar.update(2, LATEST)
    assert capfd.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar() -> None:
    def draw() -> None:
        with TrainingBar("photos", 100, 40, quiet=False) as bar:
            bar.update(41, LATEST)

    shown = drawn_on_a_terminal(draw)
    assert "40/100" in shown, "where the run goes on from"
    for text in ("photos", "41/100", "loss 1.2500", "640 views/s"):
        assert text in shown.split("40/100")[-1]
