from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from training import calibrate as calibration_module
from training.calibrate import ascending_scores, calibrate
from training.data.image_set import DataError, ImageSet, InMemory
from training.data.noise import gaussian
from training.graph_runner import GraphRunner
from training.networks import WideResNet
from training.onnx_graph import scorer_graph
from training.scorer import ClassifierScorer

SIZE = 8


@pytest.fixture(scope="module")
def runner() -> GraphRunner:
    torch.manual_seed(0)
    scorer = ClassifierScorer(WideResNet(10, 1, {"label": 3}), None, "kl").eval()
    return GraphRunner(scorer_graph(scorer, SIZE).SerializeToString(), scorer.views, "cpu")


def image_set(count: int) -> ImageSet:
    labels = np.zeros(count, np.int64)
    return ImageSet("own", "train", ("a",), labels, InMemory(gaussian(count, SIZE, 0)), "sha256:whole")


def test_scores_are_those_of_the_graph_ascending(runner: GraphRunner) -> None:
    images = image_set(20)
    calibration = calibrate(runner, images, "held out of train")
    by_hand = runner.run(images.pixels.read(0, 20))["anomaly_score"]
    assert calibration.scores == pytest.approx(sorted(by_hand.tolist()), abs=1e-6)
    assert (calibration.n, calibration.data, calibration.split) == (20, "own", "held out of train")
    assert calibration.digest == "sha256:" + hashlib.sha256(images.pixels.read(0, 20).tobytes()).hexdigest()


def test_batches_make_no_difference(runner: GraphRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = calibrate(runner, image_set(20), "x")
    monkeypatch.setattr(runner, "batch", 7)
    parts = calibrate(runner, image_set(20), "x")
    assert parts.digest == whole.digest
    assert parts.scores == pytest.approx(whole.scores, abs=1e-5)


def test_more_than_the_limit_are_drawn_by_a_fixed_seed(runner: GraphRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration_module, "LARGEST", 8)
    first, second = (calibrate(runner, image_set(20), "x") for _ in range(2))
    assert first.n == 8
    assert first == second
    every = runner.run(image_set(20).pixels.read(0, 20))["anomaly_score"]
    assert max(min(abs(score - every)) for score in first.scores) < 1e-5


def test_the_class_is_named(runner: GraphRunner) -> None:
    assert calibrate(runner, image_set(3), "x", "horse").data == "own, class horse"


def test_no_images_are_refused(runner: GraphRunner) -> None:
    with pytest.raises(DataError, match="no images of 'own'"):
        calibrate(runner, image_set(0), "half of test")


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DataError, match="1 of 2"):
        ascending_scores(np.asarray([1.0, np.nan], np.float32))
