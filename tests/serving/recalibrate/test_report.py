from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from serving.recalibrate import new_graph
from serving.recalibrate.new_graph import Recalibrated, recalibrate
from serving.recalibrate.report import report, warnings
from serving.settings import Settings
from tests.graphs import write_graph
from tests.serving.image_folders import greys, save_greys


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Recalibrated:
    folder = tmp_path_factory.mktemp("report")
    write_graph(folder / "models", "colours")
    photos = save_greys(folder / "photos", greys(60, 0, 200))
    for index in range(2):
        (photos / f"copy{index}.png").write_bytes((photos / "00000.png").read_bytes())
    for name in ("bad\n1.png", "bad2.png", "bad3.png"):
        (photos / name).write_text("no image")
    (photos / "album").symlink_to(folder / "models")
    settings = Settings(models=folder / "models", device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(new_graph, "BAD_FILES_KEPT", 2)
        return recalibrate("colours", photos, "mine", settings, progress=lambda done, total: None)


def test_bad_files_are_listed_and_the_many_counted(done: Recalibrated) -> None:
    first, second, more, copies, links, _ = warnings(done)
    assert "bad\\n1.png: no image of a format taken here" in first
    assert "bad2.png: no image" in second
    assert more == "left out: 1 more files"
    assert copies == "left out: 2 copies of other images"
    assert links == "warning: links to folders are not followed: 1 passed by"


def test_few_images_are_warned_of(done: Recalibrated) -> None:
    *_, warning = warnings(done)
    assert warning.startswith("warning: with 60 images the smallest p-value is 0.016")
    few = done.manifest.calibration
    enough = few.model_copy(update={"n": 99, "scores": few.scores + [few.scores[-1]] * 39})
    assert not [
        line
        for line in warnings(
            replace(done, linked_folders=0, manifest=done.manifest.model_copy(update={"calibration": enough}))
        )
        if "warning" in line
    ]


def test_the_report_says_what_was_written_and_how_to_serve_it(done: Recalibrated) -> None:
    text = report(done)
    assert text.startswith(f"{done.path}: calibrated on 60 images; 2 copies of other images left out; 3 left out\n")
    assert "No difference seen" in text
    assert "calibrated on 60 images, drawn at random from 70; 2" in report(replace(done, scored=70))
    folder = Path(done.path).parents[1]
    command = f"quarterturn serve --default-classifier mine --models {folder}"
    assert f"\n\nA server with both models is told which of them runs by default: {command}\n\n" in text
    assert text.endswith("calibrate the others on these images, too.")
    assert f"SIGHUP; a new one: quarterturn serve --models {folder}\n" in report(replace(done, old_name="mine"))
    one_class = done.manifest.model_copy(update={"kind": "one_class"})
    assert "--one-class mine" in report(replace(done, manifest=one_class))
