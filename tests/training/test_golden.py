"""Golden files of a graph: real images, the outputs they gave, and the bare network to recompute them from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from serving.graphs.graph import load_graph
from serving.graphs.manifest import METADATA_KEY, RecipeRecord, dump_manifest, parse_manifest
from tests.graphs import build_graph, set_metadata
from tests.training.command_line import contents
from tests.training.runs import CLASSES, make_data_root, make_run
from training.export import ExportError
from training.golden import EXPECTED_FILE, IMAGES, NETWORK_FILE, main, write_golden
from training.recipe import Recipe
from training.run_folder import RunFolder, load_network
from training.training_run import load_split


@pytest.fixture(scope="module")
def cifar_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data_root(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(cifar_root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("run"), cifar_root, "cifar10-rotations")


def write_model(path: Path, recipe: Recipe) -> Path:
    """Write a graph by hand whose manifest names ``recipe``: an export in all that golden files look at."""
    model = build_graph("by-hand", classes=CLASSES)
    manifest = parse_manifest(next(entry.value for entry in model.metadata_props if entry.key == METADATA_KEY))
    record = RecipeRecord(name=recipe.name, scale=recipe.scale, settings=recipe.settings())
    set_metadata(model, dump_manifest(manifest.model_copy(update={"recipe": record})))
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def model(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model.onnx", run.recipe())


@pytest.fixture(scope="module")
def golden(run: RunFolder, model: Path, cifar_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the command writes."""
    out = tmp_path_factory.mktemp("golden") / "new"
    app = typer.Typer()
    app.command()(main)
    arguments = [str(run.path), str(model), "--data", str(cifar_root), "--out", str(out)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert result.output.strip() == str(out / "by-hand")
    return out / "by-hand"


def images_of(golden: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.stack([np.asarray(Image.open(golden / f"image-{index}.png")) for index in range(IMAGES)])


@pytest.mark.slow
def test_a_folder_has_images_outputs_and_network(golden: Path, model: Path) -> None:
    names = [f"image-{index}.png" for index in range(IMAGES)]
    assert sorted(contents(golden)) == sorted([*names, NETWORK_FILE, EXPECTED_FILE])
    expected = json.loads((golden / EXPECTED_FILE).read_text())
    assert expected["images"] == names
    assert expected["digest"] == load_graph(model).digest


@pytest.mark.slow
def test_the_outputs_are_the_graphs_on_the_images_as_written(golden: Path, model: Path) -> None:
    expected = json.loads((golden / EXPECTED_FILE).read_text())["outputs"]
    given = load_graph(model).run(images_of(golden))
    assert expected.keys() == given.keys()
    for name, values in given.items():
        np.testing.assert_array_equal(np.asarray(expected[name], np.float32), values)


@pytest.mark.slow
def test_the_images_are_of_the_test_split_and_of_every_class(golden: Path, run: RunFolder, cifar_root: Path) -> None:
    test = load_split(run.recipe(), cifar_root, "test")
    labels = {test.pixels.read(index, index + 1).tobytes(): int(test.labels[index]) for index in range(len(test))}
    assert {labels[image.tobytes()] for image in images_of(golden)} == {0, 1, 2}


@pytest.mark.slow
def test_the_network_is_the_runs(golden: Path, run: RunFolder) -> None:
    network, _ = load_network(run)
    views = torch.from_numpy(images_of(golden)).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        expected = network(views)
    session = onnxruntime.InferenceSession(golden / NETWORK_FILE, providers=["CPUExecutionProvider"])
    given = session.run(["label_logits", "rotation_logits"], {"views": views.numpy()})
    for values, head in zip(given, ("label", "rotation"), strict=True):
        np.testing.assert_allclose(values, expected[head].numpy(), atol=1e-4)


def test_a_graph_of_another_run_is_refused(run: RunFolder, cifar_root: Path, tmp_path: Path) -> None:
    recipe = run.recipe()
    other = recipe.model_copy(update={"optimiser": recipe.optimiser.model_copy(update={"lr": 0.2})})
    model = write_model(tmp_path / "model.onnx", other)
    with pytest.raises(ExportError, match=r"was not exported from .*: their recipes differ"):
        write_golden(run, model, cifar_root, tmp_path / "golden")
    assert not (tmp_path / "golden").exists()
