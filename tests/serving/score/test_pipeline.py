from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serving.graphs.graph import GraphError, load_graph
from serving.graphs.manifest import INPUT_NAME
from serving.requests import image_of_upload
from serving.requests.decoding_room import DecodingRoom
from serving.score import pipeline
from serving.score.pipeline import (
    FILES_PER_BATCH,
    IMAGES_OF_A_RUN,
    Batch,
    ReadFile,
    Scorer,
    current_stamp,
    images_of_a_run,
)
from serving.settings import Settings
from tests.graphs import build_graph, solid, without_free_batch, write_graph
from tests.serving.image_folders import save


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("models")
    write_graph(folder, "colours")
    write_graph(folder, "views", formula="transformation")
    write_graph(folder, "large", formula="transformation", in_class="cat", size=64, shorter_side=72)
    return Settings(models=folder, device="cpu", max_image_bytes=100_000, max_image_pixels=10_000)


@pytest.fixture(scope="module")
def scorer(settings: Settings) -> Scorer:
    return Scorer.load(settings)


def test_every_graph_gives_every_file_what_it_gives_it_alone(tmp_path: Path, settings: Settings) -> None:
    count = 3 * FILES_PER_BATCH + 5
    files = [str(save(tmp_path / f"{index:03}.png", 2 * index, 32 + index % 3)) for index in range(count)]
    scorer = Scorer.load(settings, ["colours", "large"])
    batches = list(scorer.score(files))
    assert [file.path for batch in batches for file in batch.files] == files
    assert [len(batch.files) for batch in batches] == [FILES_PER_BATCH] * 3 + [5]
    for index, graph in enumerate(scorer.graphs):
        together = np.concatenate([batch.outputs[index]["anomaly_score"] for batch in batches])
        size = graph.manifest.fitting.size
        alone = [graph.run(solid(2 * grey, size)[None])["anomaly_score"][0] for grey in range(len(files))]
        assert together == pytest.approx(alone, rel=1e-5)


def test_a_bad_file_has_a_reason_and_the_others_their_outputs(tmp_path: Path, scorer: Scorer) -> None:
    good = save(tmp_path / "good.png", 0)
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    cut = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)).save(cut)
    cut.write_bytes(cut.read_bytes()[:4000])
    large = save(tmp_path / "large.png", 0, size=102)
    heavy = tmp_path / "heavy.png"
    heavy.write_bytes(b"x" * 100_001)
    gone = tmp_path / "gone.png"
    gone.symlink_to(tmp_path / "nowhere")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    bad = {
        text: "no image of a format taken here",
        cut: "will not decode",
        large: "an image may have 10000 pixels",
        heavy: "the file has 100001 bytes; an image may have 100000",
        gone: "cannot be read: No such file",
        pipe: "no regular file",
        tmp_path: "a folder that cannot be listed",
    }
    files = [file for batch in scorer.score(map(str, [good, *bad, good])) for file in batch.files]
    assert [file.path for file in files] == [str(path) for path in (good, *bad, good)]
    assert (files[0].error, files[-1].error) == (None, None)
    for file, reason in zip(files[1:-1], bad.values(), strict=True):
        assert file.image is None
        assert reason in (file.error or "")
    (batch,) = scorer.score(map(str, bad))
    assert batch.outputs == []


def test_stamps_are_those_of_the_files(tmp_path: Path, scorer: Scorer) -> None:
    path = save(tmp_path / "a.png", 0)
    (batch,) = scorer.score([str(path), str(tmp_path / "nowhere")])
    assert [file.stamp for file in batch.files] == [
        (path.stat().st_size, path.stat().st_mtime_ns, path.stat().st_ctime_ns),
        None,
    ]
    assert [current_stamp(file.path) for file in batch.files] == [file.stamp for file in batch.files]


def test_a_file_that_comes_in_parts_is_read_to_its_end(
    tmp_path: Path, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(save(tmp_path / "a.png", 10))
    (whole,) = scorer.score([file])
    read = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, size: read(descriptor, min(size, 7)))
    (in_parts,) = scorer.score([file])
    assert in_parts.files[0].error is None
    for one, other in zip(in_parts.outputs, whole.outputs, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in other)


def test_large_images_are_decoded_so_many_at_a_time_that_memory_holds_them(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work: list[int] = []
    together: list[int] = []
    fit = pipeline.fit_opened

    def fit_slowly(*given: Any) -> Any:
        at_work.append(0)
        together.append(len(at_work))
        time.sleep(0.02)
        fitted = fit(*given)
        at_work.pop()
        return fitted

    monkeypatch.setattr(pipeline, "fit_opened", fit_slowly)
    side_by_side = {}
    for room in (1, 10**9):
        scorer = Scorer.load(
            settings.model_copy(update={"max_decoding_bytes": room, "max_image_pixels": 2_000_000}), ["views"]
        )
        large = str(save(tmp_path / "large.png", 9, size=1100))  # takes more than DecodingRoom leaves uncounted
        files = [file for batch in scorer.score([large] * 3 * scorer.batch) for file in batch.files]
        assert [file.error for file in files] == [None] * 3 * scorer.batch
        side_by_side[room] = max(together)
        together.clear()
    assert side_by_side[1] == 1
    assert side_by_side[10**9] > 1


def test_the_pixels_of_a_large_image_are_gone_before_its_room_is_given_to_another(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels: list[weakref.ref[Any]] = []
    gone: list[bool] = []
    trimmed: list[int] = []
    open_upload, give_back = pipeline.open_upload, DecodingRoom.give_back

    def open_and_watch(*given: Any) -> Any:
        image = open_upload(*given)
        pixels.append(weakref.ref(image._image))
        return image

    def give_back_and_look(room: DecodingRoom, size: int) -> None:
        gone.append(pixels[-1]() is None)
        give_back(room, size)

    monkeypatch.setattr(pipeline, "open_upload", open_and_watch)
    monkeypatch.setattr(DecodingRoom, "give_back", give_back_and_look)
    monkeypatch.setattr(image_of_upload, "trim", lambda: trimmed.append(len(gone)))
    limits = {"max_image_pixels": 10_000_000, "max_image_bytes": 1_000_000}
    scorer = Scorer.load(settings.model_copy(update=limits), ["views"])
    files = [save(tmp_path / "small.png", 9, size=1100), save(tmp_path / "large.png", 9, size=3000)]
    [batch] = scorer.score(map(str, files))
    assert [file.error for file in batch.files] == [None, None]
    assert gone == [True, True]
    assert trimmed == [1]  # after the large one, and before its room is given back


def test_only_so_many_files_are_taken_ahead_of_those_that_are_done(tmp_path: Path, scorer: Scorer) -> None:
    path = str(save(tmp_path / "a.png", 0))
    taken = 0

    def files() -> Iterator[str]:
        nonlocal taken
        for _ in range(100_000):
            taken += 1
            yield path

    batches = scorer.score(files())
    most_ahead = 0
    for done in range(1, 30):
        next(batches)
        most_ahead = max(most_ahead, taken - done * FILES_PER_BATCH)
    batches.close()
    assert most_ahead < 16 * FILES_PER_BATCH * scorer.runs
    assert taken < 1_000 * scorer.runs


class Turnstile:
    """A graph's session that lets runs through only once ``needed`` of them have come together."""

    def __init__(self, session: Any, needed: int) -> None:
        self._session = session
        self._barrier = threading.Barrier(needed, timeout=60)

    def run(self, *arguments: Any) -> Any:
        self._barrier.wait()
        return self._session.run(*arguments)


class Counted:
    """A graph's session that notes how many images each run has."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.sizes: list[int] = []

    def run(self, names: Any, inputs: dict[str, Any]) -> Any:
        self.sizes.append(len(inputs[INPUT_NAME]))
        return self._session.run(names, inputs)


@pytest.mark.parametrize(
    ("name", "files", "batches", "of_a_run"),
    [
        ("colours", FILES_PER_BATCH + 13, [FILES_PER_BATCH, 13], [8, 8, 8, 8, 8, 5]),
        ("views", IMAGES_OF_A_RUN + 1, [IMAGES_OF_A_RUN, 1], [1] * (IMAGES_OF_A_RUN + 1)),
    ],
)
def test_runs_are_as_large_as_is_fastest_and_not_as_a_server_cuts_them(
    tmp_path: Path, settings: Settings, name: str, files: int, batches: list[int], of_a_run: list[int]
) -> None:
    """What ONNX Runtime is given, of a graph of 4 views and one of 36."""
    (graph,) = Scorer.load(settings, [name]).graphs
    counted = Counted(graph.session)
    scorer = Scorer([replace(graph, session=counted)], settings, runs=1)
    paths = [str(save(tmp_path / f"{index}.png", index)) for index in range(files)]
    assert [len(batch.files) for batch in scorer.score(paths)] == batches
    assert sorted(counted.sizes, reverse=True) == of_a_run  # batches are run side by side


def test_runs_go_side_by_side(tmp_path: Path, settings: Settings) -> None:
    """Each run waits for the other: with one at a time neither would ever end."""
    (graph,) = Scorer.load(settings, ["colours"]).graphs
    waiting = replace(graph, session=Turnstile(graph.session, 2))
    files = [str(save(tmp_path / f"{index}.png", index)) for index in range(4 * FILES_PER_BATCH)]
    batches: list[Batch] = list(Scorer([waiting], settings, runs=2).score(files))
    assert len(batches) == 4


def test_files_are_decoded_while_the_graph_runs(tmp_path: Path, settings: Settings) -> None:
    """The first run ends only after the last file of the next batch is decoded."""
    (graph,) = Scorer.load(settings, ["colours"]).graphs
    files = [str(save(tmp_path / f"{index}.png", index)) for index in range(2 * FILES_PER_BATCH)]
    decoded = threading.Event()

    class Watched(Scorer):
        def _read(self, path: str) -> ReadFile:
            file = super()._read(path)
            if path == files[-1]:
                decoded.set()
            return file

    class Waiting:
        def run(self, *arguments: Any) -> Any:
            assert decoded.wait(60)
            return graph.session.run(*arguments)

    waiting = replace(graph, session=Waiting())
    assert len(list(Watched([waiting], settings, runs=1).score(files))) == 2


def test_a_run_that_fails_ends_the_scoring(tmp_path: Path) -> None:
    path = tmp_path / "views" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(without_free_batch(build_graph("views", formula="transformation")).SerializeToString())
    scorer = Scorer([load_graph(path)], Settings(models=tmp_path, device="cpu"), runs=1)
    with pytest.raises(GraphError, match="a run failed"):
        list(scorer.score([str(save(tmp_path / "a.png", 0))]))


def test_a_graph_that_loads_but_does_not_run_is_refused_before_any_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "views" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(without_free_batch(build_graph("views", formula="transformation")).SerializeToString())
    with pytest.raises(GraphError, match="loads, but does not run"):
        Scorer.load(Settings(models=tmp_path, device="cpu"))


def test_runs_and_threads_are_as_the_settings_say(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.score.pipeline.available_cores", lambda: 6)
    assert Scorer.load(settings).runs == 6
    assert Scorer.load(settings.model_copy(update={"threads": 2})).runs == 3
    assert Scorer.load(settings.model_copy(update={"threads": 2, "runs": 5})).runs == 5


def test_large_images_take_fewer_runs_of_more_threads(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.score.pipeline.available_cores", lambda: 4)
    pixels_of_a_run = 36 * 64**2
    monkeypatch.setattr("serving.score.pipeline.VIEW_PIXELS_AT_A_TIME", 2 * pixels_of_a_run)
    scorer = Scorer.load(settings, ["large", "colours"])
    assert scorer.runs == 2
    threads = [graph.session.get_session_options().intra_op_num_threads for graph in scorer.graphs]
    assert threads == [2, 2]
    assert [images_of_a_run(graph) for graph in scorer.graphs] == [IMAGES_OF_A_RUN, 1]
