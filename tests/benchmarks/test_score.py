"""The benchmark of `quarterturn score` runs and prints its table; the figures themselves need an idle machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import score
from serving.graphs.graph import load_graph
from serving.graphs.providers import CPU, CUDA
from serving.images.fitting import Fitting
from serving.images.image_file import read_image
from tests.graphs import write_graph


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DISTINCT": 4, "BATCHES": (1, 8), "TRIAL_SECONDS": 0.02}.items():
        monkeypatch.setattr(score, name, value)


def test_the_table_has_a_row_a_model_and_one_of_the_default_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_graph(tmp_path, "colours")
    write_graph(tmp_path, "views", formula="transformation")
    models = ["--model", "colours", "--model", score.DEFAULT]
    options = ["--models", str(tmp_path), *models, "--kind", "png", "--seconds", "0.05", "--rounds", "3"]
    monkeypatch.setattr("sys.argv", ["score", *options])
    score.main()
    *_, first, second = capsys.readouterr().out.splitlines()
    for row, name, graphs in ((first, "colours", 1), (second, "default", 2)):
        model, image, plan, raw, scored, ratio, cpu, possible = row.strip("| ").split(" | ")
        assert (model, image) == (name, "32 x 32 PNG")
        assert re.fullmatch("; ".join([r"batch [18], \d+ x \d+(, spinning)?"] * graphs), plan)
        assert float(raw) > 0
        assert float(scored) > 0
        for spread in (ratio, cpu):
            middle, least, most = map(float, re.findall(r"[\d.]+", spread))
            assert least <= middle <= most
        assert 0 < float(possible) < 1


def test_raw_of_several_graphs_is_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = iter([(100.0, 0.02), (50.0, 0.04)])
    asked: list[float] = []
    monkeypatch.setattr(score, "raw_speed", lambda *given: asked.append(given[-1]) or next(speeds))
    both: list[Any] = [None, None]
    speed, cpu = score.raw_speed_of_all(both, both, both, 3.0)
    assert speed == pytest.approx(1 / (1 / 100 + 1 / 50))
    assert cpu == pytest.approx(0.06)
    assert asked == [1.5, 1.5]


def test_there_is_a_plan_for_every_batch_and_way_to_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "available_cores", lambda: 6)
    assert {str(plan) for plan in score.plans(CPU)} == {
        f"batch {batch}, {way}" for batch in (1, 8) for way in ("1 x 6", "1 x 6, spinning", "6 x 1")
    }
    assert {plan.runs for plan in score.plans(CUDA)} == {1, 2}


def test_the_best_plan_is_not_the_one_that_was_lucky_once() -> None:
    lucky, steady, slow = score.Plan(1, 1, 2), score.Plan(8, 2, 1), score.Plan(64, 1, 2)
    speeds = {lucky: iter([200.0, 90.0, 91.0]), steady: iter([100.0, 101.0, 99.0]), slow: iter([50.0, 51.0, 52.0])}
    assert score.best_plan(list(speeds), lambda plan: next(speeds[plan])) == steady


@pytest.mark.parametrize("spinning", [False, True])
def test_a_plan_has_a_session_as_it_says(tmp_path: Path, spinning: bool) -> None:
    graph = load_graph(write_graph(tmp_path, "colours"))
    again = score.loaded(graph, score.Plan(8, 1, 2, spinning))
    options = again.session.get_session_options()
    assert options.intra_op_num_threads == 2
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == str(int(spinning))
    images = np.zeros((3, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(again.run(images)["anomaly_score"], graph.run(images)["anomaly_score"], rtol=1e-5)


def test_pictures_are_what_their_kind_says() -> None:
    assert read_image(score.pictures("png")[0], Fitting(size=32, shorter_side=32)).std() > 10
    files = score.pictures("png")
    assert len(set(files)) == len(files) == 4
