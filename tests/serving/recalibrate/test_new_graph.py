from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from serving.errors import UnknownModelError
from serving.graphs import calibration
from serving.graphs.calibration import p_values
from serving.graphs.collection import load_collection
from serving.graphs.graph import Graph, load_graph
from serving.recalibrate.comparison import alarm_threshold
from serving.recalibrate.new_graph import Recalibrated, RecalibrationError, check_outputs, recalibrate
from serving.score.image_files import FilesError
from serving.settings import Settings
from tests.graphs import build_graph, solid, write_graph
from tests.serving.image_folders import greys, save, save_greys


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    write_graph(tmp_path / "models", "colours")
    (tmp_path / "models" / "colours" / "README.md").write_text("# colours\n\n## Calibration\n\nOld.\n")
    return Settings(models=tmp_path / "models", device="cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 greys, brighter than most of those that calibrated the graph."""
    return save_greys(tmp_path_factory.mktemp("data") / "photos", greys(120, 120, 240))


def run(photos: Path, settings: Settings, name: str = "colours-calibrated", force: bool = False) -> Recalibrated:
    return recalibrate("colours", photos, name, settings, force=force, progress=lambda done, total: None)


def old_graph(settings: Settings) -> Graph:
    return load_graph(settings.models / "colours" / "model.onnx")


def model_files(settings: Settings) -> list[str]:
    return sorted(str(path.relative_to(settings.models)) for path in settings.models.rglob("*") if path.is_file())


def test_the_new_calibration_is_the_scores_of_the_images(photos: Path, settings: Settings) -> None:
    done = run(photos, settings)
    new, old = load_graph(done.path), old_graph(settings)
    images = np.stack([solid(grey) for grey in greys(120, 120, 240)])
    scores = old.run(images)["anomaly_score"]
    assert new.calibration_scores == pytest.approx(np.sort(scores), rel=1e-5)
    found = new.manifest.calibration
    assert (found.n, found.data) == (120, "photos")
    assert found.split == "all 120 of a folder given to recalibrate colours"
    assert found.digest == f"sha256:{hashlib.sha256(images.tobytes()).hexdigest()}"
    assert done.digest == new.digest
    assert done.manifest == new.manifest
    assert (done.comparison.old_n, done.comparison.new_n, done.bad) == (99, 120, 0)
    assert model_files(settings) == [
        "colours-calibrated/README.md",
        "colours-calibrated/model.onnx",
        "colours/README.md",
        "colours/model.onnx",
    ]
    assert done.digest in (done.path.parent / "README.md").read_text()


def test_nothing_else_of_the_graph_changes(photos: Path, settings: Settings) -> None:
    done = run(photos, settings)
    new, old = load_graph(done.path), old_graph(settings)
    changed = {"name", "calibration"}
    before, after = (graph.manifest.model_dump(exclude=changed) for graph in (old, new))
    assert after == before
    assert new.name == "colours-calibrated"
    assert onnx.load(done.path).graph == onnx.load(old.path).graph
    noise = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8)
    for batch in (1, 3, 64):
        one, other = old.run(noise[:batch]), new.run(noise[:batch])
        assert one.keys() == other.keys()
        for output, values in one.items():
            assert other[output].tobytes() == values.tobytes()


def test_metrics_that_depend_on_the_calibration_are_dropped(photos: Path, settings: Settings) -> None:
    model = build_graph("colours")
    [entry] = model.metadata_props
    rates = '"metrics":{"accuracy":0.5,"ood_auroc_mean":0.7,"false_alarm_rate":0.05,"false_alarm_alpha":0.05}'
    entry.value = entry.value.replace('"metrics":{"accuracy":0.5}', rates)
    note = model.metadata_props.add()
    note.key, note.value = "note", "of somebody's own"
    (settings.models / "colours" / "model.onnx").write_bytes(model.SerializeToString())
    assert set(old_graph(settings).manifest.metrics) > {"false_alarm_rate"}
    done = run(photos, settings)
    assert done.manifest.metrics == {"accuracy": 0.5, "ood_auroc_mean": 0.7}
    assert {entry.key: entry.value for entry in onnx.load(done.path).metadata_props}["note"] == "of somebody's own"


def test_bad_images_are_named_and_left_out(tmp_path: Path, settings: Settings) -> None:
    folder = save_greys(tmp_path / "mixed", range(100, 125))
    (folder / "00003.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image")
    (folder / os.fsdecode(b"\xff\n.png")).write_bytes((folder / "00004.png").read_bytes()[:60])
    (folder / "sub").mkdir()
    save(folder / "sub" / "x.png", 90)
    done = run(folder, settings)
    assert done.manifest.calibration.n == 25
    assert done.bad == 3
    assert [path.name for path, _ in done.reasons] == ["00003.png", "notes.txt", os.fsdecode(b"\xff\n.png")]
    assert all(reason for _, reason in done.reasons)
    assert "3 files of the folder gave no image" in (done.path.parent / "README.md").read_text()


def test_of_very_many_images_a_seeded_choice_calibrates(
    photos: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = run(photos, settings, "every").manifest.calibration.scores
    monkeypatch.setattr(calibration.calibration_choice, "__defaults__", (50,))
    first, second = (run(photos, settings, name).manifest.calibration for name in ("first", "second"))
    assert first == second
    assert first.n == 50
    assert first.split.startswith("50 of 120, drawn at random,")
    assert set(first.scores) <= set(every)
    assert first.scores == sorted(first.scores)


def test_of_very_many_images_those_are_compared_that_calibrate(
    photos: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thresholds that are told are those of the graph that was written: above them it alarms."""
    monkeypatch.setattr(calibration.calibration_choice, "__defaults__", (50,))
    done = run(photos, settings)
    assert (done.scored, done.comparison.new_n) == (120, 50)
    stored = load_graph(done.path).calibration_scores
    threshold = done.comparison.alarms[0].new_threshold
    assert threshold == alarm_threshold(stored, 0.05)
    assert p_values(np.array([threshold, np.nextafter(threshold, np.inf)]), stored) == pytest.approx([3 / 51, 2 / 51])


@pytest.mark.parametrize("formula", ["transformation", "method", "msp"])
def test_every_kind_of_graph(photos: Path, tmp_path: Path, formula: str) -> None:
    write_graph(tmp_path, "colours", formula=formula, size=64, shorter_side=72)
    done = run(photos, Settings(models=tmp_path, device="cpu"))
    graph = load_graph(done.path)
    assert graph.manifest.score == formula
    assert p_values(graph.calibration_scores[-1:], graph.calibration_scores) == pytest.approx([2 / 121])


def test_a_model_is_replaced_only_by_force(photos: Path, settings: Settings) -> None:
    (settings.models / "taken").mkdir()
    (settings.models / "taken" / "README.md").write_text("mine")
    for name in ("taken", "colours"):
        with pytest.raises(RecalibrationError, match=r"is there already: give another --name, or --force"):
            run(photos, settings, name)
    assert (settings.models / "taken" / "README.md").read_text() == "mine"
    run(photos, settings, "taken", force=True)
    before = old_graph(settings)
    done = run(photos, settings, "colours", force=True)
    after = old_graph(settings)
    assert after.digest == done.digest != before.digest
    assert after.manifest.calibration.n == 120
    assert done.comparison.old_n == 99


@pytest.mark.parametrize("name", ["", "../evil", "a b", ".hidden", "a/b", "x" * 101, "a\n"])
def test_a_name_that_names_no_model_is_refused(photos: Path, settings: Settings, name: str) -> None:
    with pytest.raises(RecalibrationError, match="cannot name a model"):
        run(photos, settings, name)


def test_too_few_images_are_refused_and_nothing_is_written(tmp_path: Path, settings: Settings) -> None:
    folder = save_greys(tmp_path / "few", range(100, 119))
    (folder / "bad.png").write_bytes(b"no image")
    with pytest.raises(RecalibrationError, match=r"19 images of .*few could be scored: a calibration takes 20"):
        run(folder, settings)
    assert model_files(settings) == ["colours/README.md", "colours/model.onnx"]
    save(folder / "one-more.png", 90)
    assert run(folder, settings).manifest.calibration.n == 20


def test_copies_count_once(tmp_path: Path, settings: Settings) -> None:
    """Equal as the graph sees them: files of the same bytes, of another format, with other pixels outside the crop."""
    values = range(100, 120)
    folder = save_greys(tmp_path / "copied", [*values, *values, 100])
    Image.fromarray(solid(101)).save(folder / "other-format.bmp")
    Image.fromarray(np.pad(solid(102), ((0, 0), (4, 4), (0, 0)))).save(folder / "other-borders.png")
    (folder / "z.png").write_bytes(b"no image")
    done = run(folder, settings)
    assert (done.manifest.calibration.n, done.copies, done.bad) == (20, 23, 1)
    once = run(save_greys(tmp_path / "once" / "copied", values), settings, "once")
    split = "all 20 different images of a folder given to recalibrate colours"
    assert done.manifest.calibration == once.manifest.calibration.model_copy(update={"split": split})
    assert done.comparison == once.comparison
    card = (done.path.parent / "README.md").read_text()
    assert "23 copies of other images were left out. 1 files of the folder gave no image" in card


def test_copies_do_not_make_few_images_enough(tmp_path: Path, settings: Settings) -> None:
    folder = save_greys(tmp_path / "copied", [*range(19), *[3] * 60])
    with pytest.raises(RecalibrationError, match=r"19 images of .* could be scored, 60 copies of them not counted: "):
        run(folder, settings)
    assert model_files(settings) == ["colours/README.md", "colours/model.onnx"]


def test_what_is_not_there_is_refused(tmp_path: Path, photos: Path, settings: Settings) -> None:
    with pytest.raises(FilesError, match="no such file or folder"):
        run(tmp_path / "nowhere", settings)
    with pytest.raises(UnknownModelError, match="did you mean 'colours'"):
        recalibrate("colour", photos, "new", settings, progress=lambda done, total: None)


def test_scores_that_are_not_finite_are_refused(tmp_path: Path, settings: Settings) -> None:
    """A white picture scores infinity once the graph takes the logarithm of how dark it is."""
    model = build_graph("colours", formula="method")
    last = model.graph.node[-1]
    assert list(last.output) == ["anomaly_score"]
    last.output[0] = "brightness"
    model.graph.node.extend(
        [
            onnx.helper.make_node("Sub", ["one", "brightness"], ["darkness"]),
            onnx.helper.make_node("Log", ["darkness"], ["log_darkness"]),
            onnx.helper.make_node("Neg", ["log_darkness"], ["anomaly_score"]),
        ]
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, np.float32), "one"))
    (settings.models / "colours" / "model.onnx").write_bytes(model.SerializeToString())
    folder = save_greys(tmp_path / "whites", [255, *range(30)])
    with pytest.raises(RecalibrationError, match="1 of 31 scores are not finite"):
        run(folder, settings)


def test_another_network_or_name_is_not_taken_for_the_old_one(settings: Settings) -> None:
    graph, samples = old_graph(settings), [solid(40), solid([0, 90, 200])]
    model = build_graph("colours")
    check_outputs(graph, model.SerializeToString(), "colours", samples)
    with pytest.raises(RecalibrationError, match="came out as 'colours', not 'mine'"):
        check_outputs(graph, model.SerializeToString(), "mine", samples)
    [slope] = [value for value in model.graph.initializer if value.name == "slope"]
    changed = np.nextafter(np.float32(-5), np.float32(0))
    slope.CopyFrom(onnx.numpy_helper.from_array(np.array(changed, np.float32), "slope"))
    with pytest.raises(RecalibrationError, match="differs from the old one's"):
        check_outputs(graph, model.SerializeToString(), "colours", samples)


def test_a_graph_that_changes_meanwhile_is_refused(photos: Path, settings: Settings) -> None:
    path = settings.models / "colours" / "model.onnx"

    def change_it(done: int, total: int) -> None:
        if done == total:
            path.write_bytes(build_graph("colours", calibration=[0.0]).SerializeToString())

    with pytest.raises(RecalibrationError, match="has changed while its images were scored"):
        recalibrate("colours", photos, "new", settings, progress=change_it)


def test_a_folder_that_cannot_be_written_is_said(photos: Path, settings: Settings) -> None:
    (settings.models / "new").write_text("a file where the folder should be")
    with pytest.raises(RecalibrationError, match=r"cannot write .*new"):
        run(photos, settings, "new", force=True)


def test_a_full_disk_leaves_no_folder_in_the_way_of_the_next_try(
    photos: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", no_space)
        with pytest.raises(RecalibrationError, match=r"cannot write .*No space left on device"):
            run(photos, settings)
    assert [path.name for path in settings.models.iterdir()] == ["colours"]
    assert run(photos, settings).path.is_file()


def test_a_server_takes_the_new_model_by_default_when_told_to(photos: Path, settings: Settings) -> None:
    run(photos, settings)
    chosen = settings.model_copy(update={"default_classifier": "colours-calibrated"})
    collection = load_collection(settings.models, chosen)
    assert collection.names == ("colours", "colours-calibrated")
    assert collection.default.classifier is collection.get("colours-calibrated")
