from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.graphs import live_models
from serving.graphs.graph import Graph
from serving.graphs.inference import batch_sizes
from serving.graphs.live_models import LiveModels
from serving.graphs.session_on_own_cores import SessionOnOwnCores
from serving.metrics import metrics
from serving.settings import Settings
from tests.graphs import build_graph, solid, write_graph


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveModels]:
    write_graph(tmp_path, "colours")
    write_graph(tmp_path, "views", formula="transformation")
    models = LiveModels(Settings(models=tmp_path, device="cpu"))
    yield models
    models.close()


def replace(models: Path, name: str, content: bytes) -> None:
    path = models / name / "model.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def test_every_batch_size_of_every_graph_has_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, int]] = []
    run = Graph.run
    monkeypatch.setattr(Graph, "run", lambda graph, images: ran.append((graph.name, len(images))) or run(graph, images))
    write_graph(tmp_path, "colours")
    write_graph(tmp_path, "views", formula="transformation")
    live = LiveModels(Settings(models=tmp_path))
    graphs = live.current.collection.graphs
    live.close()
    assert {graph.name: {size for name, size in ran if name == graph.name} for graph in graphs} == {
        graph.name: set(batch_sizes(graph)) for graph in graphs
    }


def two_cores(models: Path, **settings: object) -> LiveModels:
    """A server of two cores with a graph of one view an image, one of four and one of 36."""
    write_graph(models, "one", formula="msp")
    write_graph(models, "four", formula="kl_rotation")
    write_graph(models, "all", formula="transformation")
    given = {"models": models, "device": "cpu", "runs": 2, "default_classifier": "four", **settings}
    return LiveModels(Settings(**given))  # type: ignore[arg-type]


def threads_of_wide_runs(live: LiveModels) -> dict[str, int | None]:
    return {
        name: runs.wide and runs.wide.session.get_session_options().intra_op_num_threads
        for name, runs in live.current.runs.items()
    }


def test_runs_that_are_alone_get_more_threads_once_the_server_answers(tmp_path: Path) -> None:
    live = two_cores(tmp_path)
    assert threads_of_wide_runs(live) == {"one": None, "four": None, "all": None}
    live.widen()
    assert threads_of_wide_runs(live) == {"one": None, "four": 2, "all": 2}
    assert [name for name, runs in live.current.runs.items() if runs.is_large] == ["all"]
    before = live.current.runs["four"]
    write_graph(tmp_path, "new", formula="transformation", in_class="cat")
    assert asyncio.run(live.reload())
    assert threads_of_wide_runs(live)["new"] == 2
    assert live.current.runs["four"] is before
    live.close()


@pytest.mark.parametrize("has_all", [True, False])
def test_threads_have_cores_of_their_own_where_the_worker_has_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_all: bool
) -> None:
    monkeypatch.setattr(live_models, "available_cores", lambda: 2 if has_all else 4)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(2 if has_all else 4)))
    live = two_cores(tmp_path)
    live.widen()
    sessions = [runs.wide.session for runs in live.current.runs.values() if runs.wide is not None]
    assert len(sessions) == 2
    assert {isinstance(session, SessionOnOwnCores) for session in sessions} == {has_all}
    live.close()


def test_no_run_has_more_threads_than_it_has_work_for(tmp_path: Path) -> None:
    live = two_cores(tmp_path, runs=32)
    live.widen()
    assert threads_of_wide_runs(live) == {"one": None, "four": 2, "all": 18}
    live.close()


@pytest.mark.parametrize("settings", [{"threads": 1}, {"threads": 2}, {"runs": 1}])
def test_settings_that_leave_nothing_to_widen(tmp_path: Path, settings: dict[str, int]) -> None:
    live = two_cores(tmp_path, **settings)
    live.widen()
    assert threads_of_wide_runs(live) == {"one": None, "four": None, "all": None}
    assert not [name for name, runs in live.current.runs.items() if runs.is_large]
    live.close()


@pytest.mark.parametrize("content", [b"junk", build_graph("colours", classes=["x", "y", "z"]).SerializeToString()])
def test_a_file_replaced_since_is_not_the_wide_graph(tmp_path: Path, content: bytes) -> None:
    write_graph(tmp_path, "colours")
    live = LiveModels(Settings(models=tmp_path, device="cpu", runs=2))
    replace(tmp_path, "colours", content)
    live.widen()
    runs = live.current.runs["colours"]
    assert runs.wide is None
    assert asyncio.run(runs.run([solid(0)]))["probabilities"].shape == (1, 3)
    live.close()


def test_a_changed_and_a_new_graph_take_over(
    live: LiveModels, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = live.current
    replace(tmp_path, "colours", build_graph("colours", classes=["x", "y", "z"]).SerializeToString())
    write_graph(tmp_path, "third", formula="transformation", in_class="cat")
    (tmp_path / "views" / "model.onnx").unlink()
    with caplog.at_level(logging.INFO):
        assert asyncio.run(live.reload())
    assert live.current.collection.names == ("colours", "third")
    assert live.current.collection.classifier().manifest.classes == ["x", "y", "z"]
    assert "new: colours (sha256:" in caplog.text
    assert "gone: views" in caplog.text
    # A request that began before goes on with what it began with.
    old = asyncio.run(before.runs["views"].run([solid(0)]))
    assert old["anomaly_score"].shape == (1,)
    assert before.collection.classifier().manifest.classes == ["cat", "dog", "frog"]


def test_default_models_that_are_calibrated_on_different_images_are_warned_of(
    live: LiveModels, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert "is calibrated on" not in caplog.text
    replace(tmp_path, "colours", build_graph("colours", calibrated_on="camera").SerializeToString())
    assert asyncio.run(live.reload())
    assert "views is calibrated on 'greys' and colours on 'camera'" in caplog.text


def test_what_did_not_change_is_not_loaded_again(live: LiveModels, tmp_path: Path) -> None:
    before = live.current
    write_graph(tmp_path, "third", formula="transformation", in_class="cat")
    assert asyncio.run(live.reload())
    for name in ("colours", "views"):
        assert live.current.runs[name] is before.runs[name]
        assert live.current.collection.get(name) is before.collection.get(name)


@pytest.mark.parametrize("content", [b"junk", b""])
def test_a_bad_graph_changes_nothing(
    live: LiveModels, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    before = live.current
    replace(tmp_path, "colours", content)
    write_graph(tmp_path, "third", formula="transformation")
    with caplog.at_level(logging.ERROR):
        assert not asyncio.run(live.reload())
    assert live.current is before
    assert str(tmp_path / "colours" / "model.onnx") in caplog.text
    replace(tmp_path, "colours", build_graph("colours").SerializeToString())
    assert asyncio.run(live.reload())
    assert "third" in live.current.collection.names


def test_a_second_classifier_without_a_default_changes_nothing(live: LiveModels, tmp_path: Path) -> None:
    write_graph(tmp_path, "second", formula="msp")
    assert not asyncio.run(live.reload())
    assert live.current.collection.names == ("colours", "views")


def test_a_known_graph_in_another_folder_changes_nothing(
    live: LiveModels, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(tmp_path / "views", tmp_path / "views-copy")
    assert not asyncio.run(live.reload())
    (tmp_path / "views").rename(tmp_path / "renamed")
    shutil.rmtree(tmp_path / "views-copy")
    assert not asyncio.run(live.reload())
    assert live.current.collection.names == ("colours", "views")
    for name in ("views-copy", "renamed"):
        assert f"{name}/model.onnx: the graph is named 'views'" in caplog.text


def test_what_nobody_foresaw_changes_nothing_and_is_logged(
    live: LiveModels, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError("for this graph")

    refused = metrics().reloads.labels("refused")
    before = refused._value.get()
    with monkeypatch.context() as patch:
        patch.setattr(live_models, "warm_all", no_memory)
        assert not asyncio.run(live.reload())
    assert "MemoryError: for this graph" in caplog.text
    assert refused._value.get() == before + 1
    write_graph(tmp_path, "third", formula="transformation")
    assert asyncio.run(live.reload())


def test_each_load_follows_the_link_once(tmp_path: Path) -> None:
    write_graph(tmp_path / "one", "colours")
    write_graph(tmp_path / "two", "views", formula="transformation")
    link = tmp_path / "models"
    link.symlink_to("one")
    live = LiveModels(Settings(models=link, device="cpu"))
    link.unlink()
    link.symlink_to("two")
    assert asyncio.run(live.reload())
    assert live.current.collection.graphs[0].path == tmp_path / "two" / "views" / "model.onnx"
    live.close()
