from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from serving.errors import ApiError, NoClassifierError, TwoClassifiersError, UnknownModelError, WrongKindError
from serving.graphs.collection import Collection, CollectionError, Selection, load_collection, load_selection
from serving.graphs.graph import GraphError
from serving.settings import Settings
from tests.graphs import write_graph

OTHER_DIGEST = "sha256:" + "f" * 64


def load(folder: Path, **settings: Any) -> Collection:
    return load_collection(folder, Settings(device="cpu", threads=1, **settings))


def names(selection: Selection) -> list[str]:
    return [graph.name for graph in selection.graphs]


def refusal(folder: Path, **settings: Any) -> str:
    with pytest.raises(CollectionError) as caught:
        load(folder, **settings)
    return str(caught.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One classifier, two one-class graphs of all its training data, one of a class, one of other data."""
    models = tmp_path_factory.mktemp("models")
    write_graph(models, "classifier")
    write_graph(models, "whole-b", formula="transformation")
    write_graph(models, "whole-a", formula="transformation")
    write_graph(models, "horse", formula="transformation", in_class="horse")
    write_graph(models, "elsewhere", formula="transformation", training_digest=OTHER_DIGEST)
    (models / "notes").mkdir()
    (models / "README.md").write_text("no model")
    (models / "unfinished").mkdir()
    (models / "unfinished" / "model.onnx.part").write_bytes(b"")
    return models


@pytest.fixture(scope="module")
def collection(folder: Path) -> Collection:
    return load(folder)


def test_sorted_by_name_and_only_folders_with_a_graph(collection: Collection) -> None:
    assert collection.names == ("classifier", "elsewhere", "horse", "whole-a", "whole-b")


def test_default_is_the_classifier_and_one_class_graphs_of_its_whole_training_set(collection: Collection) -> None:
    assert names(collection.default) == ["classifier", "whole-a", "whole-b"]
    assert collection.select() is collection.default
    assert collection.classifier().name == "classifier"


def test_select_takes_what_is_named_and_no_more(collection: Collection) -> None:
    assert names(collection.select(["horse"])) == ["horse"]
    assert collection.select(["horse"]).classifier is None
    assert names(collection.select(["whole-b", "horse", "classifier", "horse"])) == ["classifier", "whole-b", "horse"]


def test_wrong_names(collection: Collection) -> None:
    with pytest.raises(UnknownModelError, match="did you mean 'horse'") as unknown:
        collection.select(["classifier", "horses"])
    assert unknown.value.status == 404
    with pytest.raises(UnknownModelError):
        collection.classifier("nothing")
    with pytest.raises(WrongKindError, match="'horse' is a one_class model") as wrong:
        collection.classifier("horse")
    assert wrong.value.status == 400


def test_several_classifiers_need_a_default(tmp_path: Path) -> None:
    write_graph(tmp_path, "one")
    write_graph(tmp_path, "two", formula="msp")
    message = refusal(tmp_path)
    assert "one, two" in message
    assert "QUARTERTURN_DEFAULT_CLASSIFIER" in message
    collection = load(tmp_path, default_classifier="two")
    assert (collection.classifier().name, collection.classifier("one").name) == ("two", "one")
    with pytest.raises(TwoClassifiersError, match="one, two") as caught:
        collection.select(["one", "two"])
    assert caught.value.status == 400
    assert isinstance(caught.value, ApiError)


def test_settings_choose_one_class_graphs(folder: Path) -> None:
    assert names(load(folder, one_class=("horse", "elsewhere", "horse")).default) == [
        "classifier",
        "horse",
        "elsewhere",
    ]
    assert names(load(folder, one_class=()).default) == ["classifier"]


def test_settings_that_name_no_loaded_model_stop_the_start(folder: Path) -> None:
    assert refusal(folder, one_class=("horses",)) == (
        "QUARTERTURN_ONE_CLASS: unknown model 'horses'; did you mean 'horse'?"
    )
    assert refusal(folder, default_classifier="gone").startswith("QUARTERTURN_DEFAULT_CLASSIFIER: unknown model 'gone'")


def test_settings_that_name_a_model_of_the_other_kind_stop_the_start(folder: Path) -> None:
    assert "'classifier' is a classifier model" in refusal(folder, one_class=("classifier",))
    assert "'horse' is a one_class model" in refusal(folder, default_classifier="horse")


def test_without_a_classifier_graphs_of_whole_data_sets_run(tmp_path: Path) -> None:
    write_graph(tmp_path, "horse", formula="transformation", in_class="horse")
    collection = load(tmp_path)
    assert names(collection.default) == ["horse"]
    with pytest.raises(NoClassifierError) as caught:
        collection.classifier()
    assert caught.value.status == 404
    write_graph(tmp_path, "whole", formula="transformation")
    assert names(load(tmp_path).default) == ["whole"]
    assert names(load(tmp_path, one_class=("horse",)).default) == ["horse"]
    assert "nothing would run" in refusal(tmp_path, one_class=())


def test_of_graphs_calibrated_anew_those_calibrated_on_the_classifiers_images_run(tmp_path: Path) -> None:
    """``quarterturn calibrate`` leaves the old graphs beside the new ones, and the network's training data as it is."""
    camera = {"calibrated_on": "camera", "calibration_digest": OTHER_DIGEST}
    write_graph(tmp_path, "colours")
    write_graph(tmp_path, "views", formula="transformation")
    write_graph(tmp_path, "camera-colours", **camera)
    assert names(load(tmp_path, default_classifier="camera-colours").default) == ["camera-colours", "views"]
    # One at another size has other pixels of the same images, and so another digest.
    named = {"calibrated_on": "camera", "calibration_digest": "sha256:" + "e" * 64}
    write_graph(tmp_path, "named-views", formula="transformation", **named)
    assert names(load(tmp_path, default_classifier="camera-colours").default) == ["camera-colours", "named-views"]
    write_graph(tmp_path, "camera-views", formula="transformation", **camera)
    both = ["camera-colours", "camera-views", "named-views"]
    assert names(load(tmp_path, default_classifier="camera-colours").default) == both
    assert names(load(tmp_path, default_classifier="colours").default) == ["colours", "views"]


def test_a_model_and_the_same_calibrated_anew_need_a_choice_where_there_is_no_classifier(tmp_path: Path) -> None:
    write_graph(tmp_path, "photos", formula="transformation")
    write_graph(tmp_path, "photos-again", formula="transformation")
    assert names(load(tmp_path).default) == ["photos", "photos-again"]
    write_graph(tmp_path, "photos-calibrated", formula="transformation", calibration_digest=OTHER_DIGEST)
    assert "'photos' and 'photos-calibrated' are the same model" in refusal(tmp_path)
    assert names(load(tmp_path, one_class=["photos-calibrated"]).default) == ["photos-calibrated"]


def test_a_model_calibrated_anew_on_other_images_than_the_classifier_needs_a_choice(tmp_path: Path) -> None:
    write_graph(tmp_path, "classifier", calibrated_on="a", calibration_digest="sha256:" + "a" * 64)
    write_graph(tmp_path, "whole", formula="transformation")
    assert names(load(tmp_path).default) == ["classifier", "whole"]
    write_graph(tmp_path, "whole-b", formula="transformation", calibrated_on="b", calibration_digest=OTHER_DIGEST)
    assert "'whole' and 'whole-b' are the same model" in refusal(tmp_path)
    assert names(load(tmp_path, one_class=["whole-b"]).default) == ["classifier", "whole-b"]


def test_a_classifier_alone(tmp_path: Path) -> None:
    write_graph(tmp_path, "only", formula="kl")
    assert names(load(tmp_path).default) == ["only"]


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone") == f"the models folder {tmp_path / 'gone'} does not exist"
    assert "holds no model" in refusal(tmp_path)
    (tmp_path / "file").touch()
    assert "does not exist" in refusal(tmp_path / "file")


def test_a_graph_in_a_folder_of_another_name(tmp_path: Path) -> None:
    write_graph(tmp_path, "old").parent.rename(tmp_path / "new")
    assert "the graph is named 'old'" in refusal(tmp_path)


def test_a_damaged_graph_stops_the_start(tmp_path: Path) -> None:
    write_graph(tmp_path, "good")
    bad = write_graph(tmp_path, "bad", formula="transformation")
    bad.write_bytes(bad.read_bytes()[:500])
    with pytest.raises(GraphError, match=str(bad)):
        load(tmp_path)


def test_what_is_loaded_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_graph(tmp_path, "good")
    with caplog.at_level(logging.INFO, logger="serving.graphs.collection"):
        graph = load(tmp_path).get("good")
    assert caplog.messages == [f"loaded good ({graph.digest}) on CPUExecutionProvider"]


def test_named_models_need_no_default_and_load_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("first", "second", "third"):
        write_graph(tmp_path, name)
    settings = Settings(device="cpu", threads=1)
    with caplog.at_level(logging.INFO, "serving.graphs.collection"):
        assert names(load_selection(tmp_path, settings, ["second"])) == ["second"]
    assert [record.args[0] for record in caplog.records if isinstance(record.args, tuple)] == ["second"]
    with pytest.raises(UnknownModelError, match="fourth"):
        load_selection(tmp_path, settings, ["fourth"])
    with pytest.raises(TwoClassifiersError):
        load_selection(tmp_path, settings, ["first", "second"])
    with pytest.raises(CollectionError, match="say which runs by default"):
        load_selection(tmp_path, settings, [])


def test_without_names_the_default_models_are_selected(folder: Path) -> None:
    assert names(load_selection(folder, Settings(device="cpu", threads=1), [])) == ["classifier", "whole-a", "whole-b"]
