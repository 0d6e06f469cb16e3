from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from serving.graphs.graph import load_graph
from serving.graphs.manifest import METADATA_KEY, parse_manifest
from tests.reference_scores import recompute_scores
from tests.training.command_line import contents
from tests.training.runs import make_data_root, make_run
from training.data.noise import gaussian
from training.export import Exported, ExportError, export_run, self_check
from training.graph_precision import TOLERANCES
from training.graph_runner import GraphRunner
from training.run_folder import RunError, RunFolder, load_network
from training.scorer import build_scorer
from training.training_run import calibration_images, load_split

TOLERANCE = TOLERANCES["fp32"]
EVALUATION = 'evaluation.ood=["gaussian"]'


class Shipped:
    """A run, its exported graph and the bare network beside it."""

    def __init__(self, folder: Path, data_root: Path, recipe: str, name: str) -> None:
        self.data_root = data_root
        self.folder = folder
        self.run = make_run(folder / "run", data_root, recipe, EVALUATION)
        self.network_path = folder / "network.onnx"
        self.exported: Exported = export_run(self.run, name, folder / "models", with_network=self.network_path)


@pytest.fixture(scope="module")
def cifar_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data_root(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def classifier(cifar_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    return Shipped(tmp_path_factory.mktemp("rotations"), cifar_root, "cifar10-rotations", "rotations")


@pytest.fixture(scope="module")
def horse(cifar_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    return Shipped(tmp_path_factory.mktemp("horse"), cifar_root, "cifar10-one-class-transformations", "horse")


@pytest.fixture(scope="module", params=["classifier", "horse"])
def shipped(request: pytest.FixtureRequest) -> Shipped:
    found: Shipped = request.getfixturevalue(request.param)
    return found


def real_images(shipped: Shipped, count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return load_split(shipped.run.recipe(), shipped.data_root, "test").pixels.read(0, count)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_serving_gets_the_modules_scores_at_any_batch_size(shipped: Shipped, batch: int) -> None:
    images = real_images(shipped, batch)
    given = load_graph(shipped.exported.path).run(images)
    scorer = build_scorer(*load_network(shipped.run))
    with torch.inference_mode():
        expected = {name: value.numpy() for name, value in scorer(torch.from_numpy(images)).items()}
    assert set(given) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(given[name], value, atol=TOLERANCE, rtol=TOLERANCE)


def test_scores_follow_from_the_bare_network_by_the_papers_formulas(shipped: Shipped) -> None:
    images = real_images(shipped, 5)
    graph = load_graph(shipped.exported.path)
    network = onnxruntime.InferenceSession(shipped.network_path, providers=["CPUExecutionProvider"])
    recomputed = recompute_scores(graph.manifest, network, images)
    given = graph.run(images)
    assert set(given) == set(recomputed)
    for name, value in recomputed.items():
        np.testing.assert_allclose(given[name], value, atol=TOLERANCE, rtol=TOLERANCE)


def test_outputs_have_the_contracts_shapes(classifier: Shipped, horse: Shipped) -> None:
    images = real_images(classifier, 2)
    rotations = load_graph(classifier.exported.path).run(images)
    assert {name: value.shape for name, value in rotations.items()} == {
        "probabilities": (2, 3),
        "kl_uniform": (2,),
        "rotation_loss": (2,),
        "view_probabilities": (2, 4),
        "anomaly_score": (2,),
    }
    transformations = load_graph(horse.exported.path).run(images)
    assert {name: value.shape for name, value in transformations.items()} == {
        "view_probabilities": (2, 4, 3, 3, 3),
        "anomaly_score": (2,),
    }


def test_the_file_is_whole_and_names_no_place_on_this_machine(shipped: Shipped) -> None:
    data = shipped.exported.path.read_bytes()
    assert shipped.exported.digest == "sha256:" + hashlib.sha256(data).hexdigest()
    assert sorted(entry.name for entry in shipped.exported.path.parent.iterdir()) == ["README.md", "model.onnx"]
    for place in (str(Path(__file__).parents[2]), str(shipped.folder), "site-packages"):
        assert place.encode() not in data
        assert place.encode() not in shipped.network_path.read_bytes()


def test_the_manifest_of_a_classifier(classifier: Shipped) -> None:
    manifest = load_graph(classifier.exported.path).manifest
    assert (manifest.name, manifest.kind, manifest.score) == ("rotations", "classifier", "kl_rotation")
    assert manifest.classes == ["cat", "dog", "horse"]
    assert manifest.normal is None
    assert manifest.network == "WRN 10-1"
    assert manifest.recipe.settings == classifier.run.recipe().settings()
    assert manifest.view_grid is not None
    assert (manifest.view_grid.axes, manifest.view_grid.rotations) == (["rotation"], [0, 1, 2, 3])
    assert manifest.training_data.model_dump() == classifier.run.training_record()["data"]
    assert manifest.metrics == {}


def test_the_manifest_of_a_one_class_model(horse: Shipped) -> None:
    manifest = load_graph(horse.exported.path).manifest
    assert (manifest.kind, manifest.score, manifest.normal) == ("one_class", "transformation", "horse")
    assert manifest.training_data.in_class == "horse"
    assert manifest.calibration.data == "cifar10, class horse"
    assert manifest.view_grid is not None
    assert manifest.view_grid.axes == manifest.view_grid.heads == ["rotation", "vertical", "horizontal"]
    assert manifest.view_grid.vertical == [0, 8, -8]


def test_calibration_is_of_images_held_out_and_in_order(shipped: Shipped) -> None:
    graph = load_graph(shipped.exported.path)
    images, _ = calibration_images(shipped.run.recipe(), shipped.data_root, None)
    scores = graph.run(images.pixels.read(0, len(images)))["anomaly_score"]
    np.testing.assert_allclose(graph.calibration_scores, np.sort(scores), atol=1e-4)
    assert graph.manifest.calibration.n == len(images)
    assert len(images) == shipped.run.training_record()["held_out"]


def test_the_card_lies_beside_the_model(shipped: Shipped) -> None:
    card = (shipped.exported.path.parent / "README.md").read_text(encoding="utf-8")
    assert shipped.exported.digest in card
    assert "Not measured" in card


def test_a_graph_that_disagrees_with_the_module_is_refused(classifier: Shipped) -> None:
    network, recipe = load_network(classifier.run)
    runner = GraphRunner(classifier.exported.path.read_bytes(), 4, "cpu")
    images = real_images(classifier, 7)
    assert self_check(build_scorer(network, recipe), runner, images) <= TOLERANCE
    with torch.no_grad():
        next(network.parameters()).mul_(1.1)
    with pytest.raises(ExportError, match=r"differs from PyTorch's by"):
        self_check(build_scorer(network, recipe), runner, images)


def test_a_graph_with_other_outputs_is_refused(classifier: Shipped, horse: Shipped) -> None:
    runner = GraphRunner(horse.exported.path.read_bytes(), 36, "cpu")
    with pytest.raises(ExportError, match="where the module gives"):
        self_check(build_scorer(*load_network(classifier.run)), runner, gaussian(7, 32, 0))


@pytest.mark.parametrize("name", ["../up", ".hidden", "", "two words"])
def test_names_that_are_no_folder_name_are_refused(classifier: Shipped, tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match="cannot name a model"):
        export_run(classifier.run, name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_baseline_without_evaluation_is_refused(classifier: Shipped, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no evaluation of its latest checkpoint"):
        export_run(classifier.run, "x", tmp_path, baseline=classifier.run)


@pytest.mark.parametrize(
    ("place", "said"),
    [("there", "is a folder; --with-network takes the name"), ("models/mine/../mine/model.onnx", "is the model's own")],
)
def test_a_place_where_the_network_cannot_go_leaves_the_earlier_model_and_card(
    classifier: Shipped, tmp_path: Path, place: str, said: str
) -> None:
    folder = tmp_path / "models" / "mine"
    for made in (folder, tmp_path / "there"):
        made.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"earlier model")
    (folder / "README.md").write_text("earlier card")
    with pytest.raises(ExportError, match=said):
        export_run(classifier.run, "mine", tmp_path / "models", with_network=tmp_path / place)
    assert contents(folder) == {"model.onnx": b"earlier model", "README.md": b"earlier card"}
    assert contents(tmp_path / "there") == {}


def test_a_full_disk_leaves_the_earlier_model_and_card(
    classifier: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"earlier model")
    (folder / "README.md").write_text("earlier card")

    def no_space(descriptor: int, calls: list[int] = []) -> None:  # noqa: B006 - counts the calls
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(ExportError, match=r"No space left on device; what was there is intact"):
        export_run(classifier.run, "mine", tmp_path / "models")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "model.onnx": b"earlier model",
        "README.md": b"earlier card",
    }


@pytest.mark.slow
def test_a_large_network_exports_like_a_small_one(large_data_root: Path, tmp_path: Path) -> None:
    """ResNet-18 at 224 pixels, images fitted from 300."""
    run = make_run(tmp_path / "run", large_data_root, "own-classifier-224", "data.name=photos", "calibration.minimum=3")
    exported = export_run(run, "large", tmp_path / "models")
    graph = load_graph(exported.path)
    assert (graph.manifest.fitting.size, graph.manifest.fitting.shorter_side) == (224, 256)
    assert graph.manifest.network == "ResNet-18"
    graph.warm()


def test_metadata_is_under_the_contracts_key(classifier: Shipped) -> None:
    model = onnx.load(classifier.exported.path)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert parse_manifest(entries[METADATA_KEY]) == classifier.exported.manifest


@pytest.mark.parametrize("name", ["training.json", "environment.json"])
@pytest.mark.parametrize("content", ["{}", "[]"])
def test_a_damaged_record_is_named(classifier: Shipped, tmp_path: Path, name: str, content: str) -> None:
    run = RunFolder(Path(shutil.copytree(classifier.run.path, tmp_path / "run")))
    (run.path / name).write_text(content)
    with pytest.raises(RunError, match=f"{name} is damaged"):
        export_run(run, "x", tmp_path / "models", data_root=classifier.data_root)
    assert not (tmp_path / "models").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a run folder"):
        export_run(RunFolder(tmp_path), "x", tmp_path / "models")
