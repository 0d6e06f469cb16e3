"""Export in a lower precision: what it changes is measured and said, and too much of a loss is refused."""

from __future__ import annotations

import inspect
import io
import json
import re
from pathlib import Path
from typing import Any, get_args

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from serving.graphs.graph import load_graph
from serving.graphs.manifest import Precision
from serving.listing import load_graphs, models_table
from tests.serving.local_service import local_service
from tests.training.command_line import contents, quarterturn
from training.commands import export
from training.evaluation import ALPHA
from training.precision_change import MAX_LOSS
from training.recipe_files import load_recipe
from training.run_folder import RunFolder, load_network
from training.training_run import calibration_images, load_split, train_recipe

UNEVEN = 4096.0  # a power of two: float32 gives the very same outputs
SETTINGS = [
    "data.size=16",
    "data.shorter_side=16",
    "data.limit_per_class=24",
    "optimiser.batch=8",
    "optimiser.epochs=16",
    "augmentation.flip=false",
    "evaluation.limit=0",
    'evaluation.ood=["gaussian","blobs"]',
]


@pytest.fixture(scope="module")
def run(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A small classifier of the patterns, trained for seconds."""
    run = RunFolder(tmp_path_factory.mktemp("trained"))
    assert train_recipe(load_recipe("own-classifier-32", "smoke", SETTINGS), data_root, run).finished
    return run


@pytest.fixture(scope="module")
def uneven(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The same function by other weights: in each block one channel is UNEVEN times as large as before.

    The next convolution takes it back. An 8-bit range that reaches to this channel leaves few steps for the others.
    """
    other = RunFolder(tmp_path_factory.mktemp("uneven"))
    for name, data in contents(run.path).items():
        (other.path / name).write_bytes(data)
    checkpoint = run.load_checkpoint()
    weights = checkpoint["network"]
    for name in [name for name in weights if name.endswith("bn2.weight")]:
        block = name.removesuffix("bn2.weight")
        channel = int(weights[name].abs().argmax())
        for norm in ("bn2.weight", "bn2.bias"):
            weights[block + norm][channel] *= UNEVEN
        weights[block + "conv2.weight"][:, channel] /= UNEVEN
    del checkpoint["format"]
    other.save_checkpoint(checkpoint)
    return other


@pytest.fixture(scope="module")
def models(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's models in every precision, named by it, as the command exports them."""
    folder = tmp_path_factory.mktemp("models")
    for precision in get_args(Precision):
        done = quarterturn("export", run.path, "--name", precision, "--models", folder, "--precision", precision)
        assert done.status == 0, done.err
    return folder


def metrics_of(models: Path, precision: str) -> dict[str, Any]:
    manifest = load_graph(models / precision / "model.onnx").manifest
    assert manifest.precision == precision
    return manifest.metrics


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_figures_are_those_of_both_graphs_on_the_same_images(
    models: Path, run: RunFolder, data_root: Path, precision: str
) -> None:
    test = load_split(run.recipe(), data_root, "test")
    images = test.pixels.read(0, len(test))
    lowered, reference = (load_graph(models / name / "model.onnx").run(images) for name in (precision, "fp32"))
    found = metrics_of(models, precision)
    change = found["precision_change"]
    assert change["test_images"] == len(test)
    assert change["max_loss"] == MAX_LOSS
    for outputs, accuracy in ((lowered, found["accuracy"]), (reference, change["fp32"]["accuracy"])):
        assert accuracy == pytest.approx(np.mean(outputs["probabilities"].argmax(1) == test.labels))
    difference = np.abs(lowered["anomaly_score"] - reference["anomaly_score"]).mean()
    assert change["score_difference"] == pytest.approx(difference, rel=1e-3)
    assert difference > 1e-6
    assert found["ood_auroc"].keys() == {"gaussian", "blobs"}
    assert found["ood_auroc_mean"] == pytest.approx(np.mean(list(found["ood_auroc"].values())))
    for name, value in change["fp32"].items():
        assert change["change"][name] == pytest.approx(found[name] - value)
        assert found[name] >= value - MAX_LOSS


@pytest.mark.slow
def test_the_network_has_something_to_lose(models: Path) -> None:
    """Else none of these tests would mean much."""
    assert metrics_of(models, "int8")["precision_change"]["fp32"]["accuracy"] > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_p_values_are_calibrated_with_the_graphs_own_scores(
    models: Path, run: RunFolder, data_root: Path, precision: str
) -> None:
    graph, reference = (load_graph(models / name / "model.onnx") for name in (precision, "fp32"))
    images, _ = calibration_images(run.recipe(), data_root, run.training_record())
    scores = np.sort(graph.run(images.pixels.read(0, len(images)))["anomaly_score"])
    np.testing.assert_allclose(graph.calibration_scores, scores, atol=1e-4)
    assert not np.allclose(graph.calibration_scores, reference.calibration_scores, atol=1e-6)
    assert graph.manifest.calibration.digest == reference.manifest.calibration.digest
    test = load_split(run.recipe(), data_root, "test")
    tested = graph.run(test.pixels.read(0, len(test)))["anomaly_score"]
    p_values = (1 + (scores[None] >= tested[:, None]).sum(axis=1)) / (len(scores) + 1)
    assert graph.manifest.metrics["false_alarm_rate"] == pytest.approx(np.mean(p_values <= ALPHA))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_card_says_what_changed_and_what_is_allowed(models: Path, precision: Precision) -> None:
    graph = load_graph(models / precision / "model.onnx")
    card = (models / precision / "README.md").read_text(encoding="utf-8")
    section = card.split("## Precision\n")[1].split("\n## ")[0]
    change = graph.manifest.metrics["precision_change"]
    rows = {
        cells[1]: cells[2:5]
        for cells in (
            [cell.strip() for cell in line.split("|")] for line in section.splitlines() if line.startswith("|")
        )
    }
    expected = (change["fp32"]["accuracy"], graph.manifest.metrics["accuracy"])
    assert rows["accuracy"][:2] == [f"{100 * value:.1f}" for value in expected]
    assert rows["mean AUROC of sets"][2] == f"{100 * change['change']['ood_auroc_mean']:+.2f}"
    assert "falls by more than 1 points" in section
    assert ("by more than 0.02 · max(1, |value|)" in section) == (precision == "fp16")
    assert graph.digest in card
    assert f"{precision}, `sha256:" in card
    assert card.rstrip().removesuffix("```").rstrip().endswith(f"--data DATA --precision {precision}")


@pytest.mark.slow
def test_the_card_of_fp32_speaks_of_no_change(models: Path) -> None:
    card = (models / "fp32" / "README.md").read_text(encoding="utf-8")
    assert "## Precision" not in card
    assert "--precision" not in card
    assert metrics_of(models, "fp32") == {}  # the run has no evaluation


@pytest.mark.slow
def test_lower_precisions_make_smaller_files(models: Path) -> None:
    fp32, fp16, int8 = ((models / name / "model.onnx").stat().st_size for name in ("fp32", "fp16", "int8"))
    assert int8 < fp16 < fp32


@pytest.mark.slow
def test_every_precision_is_served_and_listed(models: Path, run: RunFolder, data_root: Path) -> None:
    test = load_split(run.recipe(), data_root, "test")
    pixels = test.pixels.read(0, 1)
    file = io.BytesIO()
    Image.fromarray(pixels[0]).save(file, "png")
    with local_service(models, default_classifier="fp32") as address, httpx.Client(base_url=address) as client:
        listed = {model["name"]: model["precision"] for model in client.get("/models").json()["models"]}
        for precision in get_args(Precision):
            answer = client.post("/anomaly_score", files={"images": file.getvalue()}, data={"model": precision}).json()
            score = answer["results"][0]["kl_rotation"]["score"]
            graph = load_graph(models / precision / "model.onnx")
            assert score == pytest.approx(float(graph.run(pixels)["anomaly_score"][0]), rel=1e-3)
    assert listed == {precision: precision for precision in get_args(Precision)}
    cells = [str(cell) for cell in models_table(load_graphs(models)).columns[0].cells]
    assert [cell.rpartition(" ")[2] for cell in cells] == sorted(listed)


@pytest.mark.slow
def test_a_network_that_int8_ruins_is_refused(uneven: RunFolder, run: RunFolder, tmp_path: Path) -> None:
    views = torch.rand(2, 3, 16, 16)
    with torch.inference_mode():
        same, changed = (load_network(folder)[0](views)["label"] for folder in (run, uneven))
    torch.testing.assert_close(changed, same)
    arguments = ("export", uneven.path, "--name", "ruined", "--models", tmp_path / "models", "--precision", "int8")
    refused = quarterturn(*arguments)
    lost = re.fullmatch(
        r"int8 loses more than 0\.01 on 24 test images: accuracy from (\S+) to (0\.\d+).*; "
        r"nothing was written \(--max-loss allows more\)",
        refused.error,
    )
    assert lost is not None, refused.error
    assert not (tmp_path / "models").exists()
    allowed = quarterturn(*arguments, "--max-loss", "1")
    assert allowed.status == 0, allowed.err
    found = metrics_of_file(tmp_path / "models" / "ruined")
    assert f"{found['accuracy']:.4f}" == lost[2]
    assert f"{found['precision_change']['fp32']['accuracy']:.4f}" == lost[1]
    assert (
        (tmp_path / "models/ruined/README.md")
        .read_text()
        .rstrip()
        .removesuffix("```")
        .rstrip()
        .endswith("--max-loss 1")
    )


def metrics_of_file(folder: Path) -> dict[str, Any]:
    return load_graph(folder / "model.onnx").manifest.metrics


def test_an_unknown_precision_is_named(run: RunFolder, tmp_path: Path) -> None:
    done = quarterturn("export", run.path, "--name", "x", "--models", tmp_path, "--precision", "fp8")
    assert done.error == "no precision 'fp8'; the precisions are fp32, fp16, int8"
    assert json.loads((run.path / "recipe.json").read_text())["name"] == "own-classifier-32"
    assert list(tmp_path.iterdir()) == []


def test_the_commands_limit_is_the_stated_one() -> None:
    assert inspect.signature(export).parameters["max_loss"].default == MAX_LOSS
