"""Scoring many images with a graph: in batches, in order, with a digest of what was scored."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from serving.images.fitting import Fitting
from tests.graphs import build_graph
from tests.training.patterns import image_set
from training.data.image_set import DataError
from training.data.sources import load_images
from training.graph_runner import GraphRunner, images_per_run


@pytest.fixture(scope="module")
def model() -> bytes:
    return bytes(build_graph().SerializeToString())


def test_outputs_are_the_graphs_by_name(model: bytes) -> None:
    images = image_set(per_class=1)
    outputs = GraphRunner(model, 4, "cpu").run(images.pixels.read(0, 3))
    assert {name: values.shape for name, values in outputs.items()} == {
        "anomaly_score": (3,),
        "probabilities": (3, 3),
        "kl_uniform": (3,),
        "rotation_loss": (3,),
        "view_probabilities": (3, 4),
    }
    np.testing.assert_allclose(outputs["anomaly_score"], outputs["rotation_loss"] - outputs["kl_uniform"], atol=1e-6)


def test_a_batch_has_about_so_many_views(model: bytes) -> None:
    batches = {views: GraphRunner(model, views, "cpu").batch for views in (1, 4, 36, 2560)}
    assert batches == {1: 256, 4: 64, 36: 7, 2560: 1}


@pytest.mark.parametrize("views", [1, 4, 36])
@pytest.mark.parametrize(("size", "channels"), [(32, 160), (224, 64 // 4)])
def test_on_a_gpu_no_tensor_of_a_network_has_more_elements_than_32_bits_count(
    views: int, size: int, channels: int
) -> None:
    """The first stage of WRN 28-10; the first convolution of ResNet-18, of 64 channels at half the size."""
    images = images_per_run(views, size, on_cpu=False)
    assert images * views * channels * size**2 < 2**31
    assert images * views >= 36


@pytest.mark.parametrize("views", [36, 100, 1000])
def test_all_images_are_scored_once_and_in_order(model: bytes, views: int) -> None:
    """15 images in batches of 7, 2 and 1: the last batch is smaller, or full."""
    images = image_set(per_class=5)
    runner = GraphRunner(model, views, "cpu")
    scored = runner.score(images, "scoring")
    for name, values in scored.items():
        alone = [runner.run(images.pixels.read(index, index + 1))[name] for index in range(15)]
        np.testing.assert_allclose(values, np.concatenate(alone), atol=1e-6)


def test_the_digest_is_of_the_pixels_in_their_order(model: bytes) -> None:
    images = image_set(per_class=3)
    expected = "sha256:" + hashlib.sha256(images.pixels.read(0, 9).tobytes()).hexdigest()
    for views in (36, 1000):
        assert GraphRunner(model, views, "cpu").score_and_digest(images, "scoring")[1] == expected
    turned = images.take(np.arange(9)[::-1].copy())
    assert GraphRunner(model, 36, "cpu").score_and_digest(turned, "scoring")[1] != expected


def test_files_are_scored_as_serving_fits_them(large_data_root: Path) -> None:
    fitting = Fitting(size=128, shorter_side=140)
    images = load_images(large_data_root, "photos", "test", fitting)
    runner = GraphRunner(build_graph(size=128, shorter_side=140).SerializeToString(), 100, "cpu")
    scores = runner.score(images, "scoring")["anomaly_score"]
    np.testing.assert_allclose(scores, runner.run(images.pixels.read(0, 12))["anomaly_score"], atol=1e-6)


def test_a_file_that_went_bad_is_named(large_data_root: Path, tmp_path: Path) -> None:
    shutil.copytree(large_data_root, tmp_path, dirs_exist_ok=True)
    images = load_images(tmp_path, "photos", "test", Fitting(size=128, shorter_side=140))
    (tmp_path / "photos/test/corner/1001.jpg").write_bytes(b"junk")
    runner = GraphRunner(build_graph(size=128, shorter_side=140).SerializeToString(), 4, "cpu")
    with pytest.raises(DataError, match=r"1001\.jpg"):
        runner.score(images, "scoring")


def test_the_processor_in_words(model: bytes) -> None:
    assert GraphRunner(model, 4, "cpu").device.startswith("ONNX Runtime, CPU, ")
