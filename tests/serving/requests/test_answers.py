from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.graphs.graph import Graph, load_graph
from serving.requests.answers import (
    anomaly_result,
    classify_results,
    number,
    public_manifest,
    score_parts,
)
from tests.graphs import solid, write_graph

IMAGES = np.stack([solid(0), solid(120), solid(255)])


def load(folder: Path, **options: object) -> Graph:
    return load_graph(write_graph(folder, "made", **options))  # type: ignore[arg-type]


def floats(values: list[list[float]]) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


def test_classes_come_in_descending_order_of_probability(classifier: Graph) -> None:
    outputs = {"probabilities": floats([[0.25, 0.5, 0.25], [0.125, 0.125, 0.75]])}
    first, second = classify_results(classifier, outputs, top_k=2)
    assert first == {
        "label": "dog",
        "index": 1,
        "probability": 0.5,
        "top": [
            {"label": "dog", "index": 1, "probability": 0.5},
            {"label": "cat", "index": 0, "probability": 0.25},
        ],
    }
    assert [entry["label"] for entry in second["top"]] == ["frog", "cat"]


def test_equal_classes_stay_in_order_and_those_that_are_not_finite_come_last(classifier: Graph) -> None:
    outputs = {"probabilities": floats([[np.nan, 0.25, 0.25], [0.0, -np.inf, 0.0]])}
    first, second = classify_results(classifier, outputs, top_k=3)
    assert [entry["index"] for entry in first["top"]] == [1, 2, 0]
    assert [entry["probability"] for entry in first["top"]] == [0.25, 0.25, None]
    assert [entry["index"] for entry in second["top"]] == [0, 2, 1]


@pytest.mark.parametrize(("top_k", "entries"), [(1, 1), (3, 3), (1000, 3)])
def test_top_k_is_cut_to_the_number_of_classes(classifier: Graph, top_k: int, entries: int) -> None:
    for result in classify_results(classifier, classifier.run(IMAGES), top_k):
        assert len(result["top"]) == entries
        assert {key: result[key] for key in ("label", "index", "probability")} == result["top"][0]


def test_a_classifiers_part_holds_the_terms_of_its_score(classifier: Graph) -> None:
    for part in score_parts(classifier, classifier.run(IMAGES), alpha=0.05):
        assert list(part) == [
            *("model", "digest", "score", "formula", "kl_uniform", "rotation_loss"),
            *("p_value", "calibration_n", "is_anomaly"),
        ]
        assert part["formula"] == "kl_rotation"
        assert part["score"] == pytest.approx(part["rotation_loss"] - part["kl_uniform"], abs=1e-5)
        assert part["calibration_n"] == 99


@pytest.mark.parametrize("formula", ["kl", "msp"])
def test_a_classifier_without_a_rotation_head_has_no_rotation_loss(tmp_path: Path, formula: str) -> None:
    graph = load(tmp_path, formula=formula)
    for part in score_parts(graph, graph.run(IMAGES), alpha=0.05):
        assert part["rotation_loss"] is None
        assert part["formula"] == formula


def test_a_white_image_is_an_anomaly_and_a_black_one_is_not(classifier: Graph, one_class: Graph) -> None:
    for graph in (classifier, one_class):
        black, grey, white = score_parts(graph, graph.run(IMAGES), alpha=0.05)
        assert black["score"] < grey["score"] < white["score"]
        assert black["p_value"] > grey["p_value"] > white["p_value"] == 0.01
        assert (black["is_anomaly"], white["is_anomaly"]) == (False, True)


def test_is_anomaly_means_a_p_value_of_at_most_alpha(classifier: Graph) -> None:
    outputs = classifier.run(IMAGES)
    grey = score_parts(classifier, outputs, alpha=0.05)[1]
    at, below = grey["p_value"], np.nextafter(grey["p_value"], 0)
    assert score_parts(classifier, outputs, alpha=at)[1]["is_anomaly"] is True
    assert score_parts(classifier, outputs, alpha=float(below))[1]["is_anomaly"] is False


def test_views_hold_the_probability_of_every_true_transformation(one_class: Graph) -> None:
    outputs = one_class.run(IMAGES)
    assert all("views" not in part for part in score_parts(one_class, outputs, alpha=0.05))
    for index, part in enumerate(score_parts(one_class, outputs, alpha=0.05, views=True)):
        views = part["views"]
        probabilities = np.array(views["probabilities"])
        assert probabilities.shape == (4, 3, 3, 3)
        assert -probabilities.sum() == pytest.approx(part["score"], abs=1e-4)
        np.testing.assert_array_equal(probabilities.astype(np.float32), outputs["view_probabilities"][index])
        assert (views["axes"], views["heads"]) == (["rotation", "vertical", "horizontal"],) * 2
        assert (views["rotations"], views["vertical"]) == ([0, 1, 2, 3], [0, 8, -8])
        assert (part["normal"], part["method"]) == ("cat", "transformation prediction")


@pytest.mark.parametrize(
    ("p_values", "alarm"),
    [((0.05,), True), ((0.051,), False), ((0.05, 0.9), False), ((0.9, 0.025), True), ((0.02, 0.02, 0.02), False)],
)
def test_the_whole_answer_keeps_its_false_alarm_rate_however_many_models_run(
    p_values: tuple[float, ...], alarm: bool
) -> None:
    parts = [{"p_value": p_value} for p_value in p_values]
    with_classifier = anomaly_result(parts[0], parts[1:], alpha=0.05)
    assert with_classifier == {"is_anomaly": alarm, "kl_rotation": parts[0], "transformation": parts[1:]}
    without = anomaly_result(None, parts, alpha=0.05)
    assert without == {"is_anomaly": alarm, "kl_rotation": None, "transformation": parts}


def test_the_smallest_alpha_of_a_warning_does_fire(classifier: Graph, one_class: Graph) -> None:
    def verdict(alpha: float) -> bool:
        parts = [score_parts(graph, graph.run(IMAGES[2:]), alpha)[0] for graph in (classifier, one_class)]
        return bool(anomaly_result(parts[0], parts[1:], alpha)["is_anomaly"])

    assert verdict(0.02)
    assert not verdict(0.0199)


def test_no_answer_holds_a_number_that_json_has_not(classifier: Graph, one_class: Graph) -> None:
    for value in (np.nan, np.inf, -np.inf):
        assert number(np.float32(value)) is None
        outputs = {name: np.full_like(output, value) for name, output in classifier.run(IMAGES).items()}
        views = {name: np.full_like(output, value) for name, output in one_class.run(IMAGES).items()}
        answer = [
            *classify_results(classifier, outputs, 3),
            *score_parts(classifier, outputs, 0.05),
            *score_parts(one_class, views, 0.05, views=True),
        ]
        json.dumps(answer, allow_nan=False)


def test_a_score_that_is_no_number_is_an_alarm(classifier: Graph) -> None:
    outputs = {name: np.full_like(output, np.nan) for name, output in classifier.run(IMAGES).items()}
    part = score_parts(classifier, outputs, alpha=0.05)[0]
    assert (part["score"], part["p_value"], part["is_anomaly"]) == (None, 0.01, True)


def test_the_public_manifest_holds_the_quantiles_of_the_calibration_scores(classifier: Graph) -> None:
    quantiles = public_manifest(classifier)["calibration"]["quantiles"]
    scores = classifier.calibration_scores
    assert len(quantiles) == 101
    assert quantiles == sorted(quantiles)
    ends = (quantiles[0], quantiles[50], quantiles[100])
    assert ends == pytest.approx((scores[0], float(np.median(scores)), scores[-1]), rel=1e-5)
    shares = [(scores <= quantile).mean() for quantile in quantiles[1:]]
    assert shares == pytest.approx(np.linspace(0.01, 1, 100).tolist(), abs=0.02)


def test_the_public_manifest_says_what_a_user_needs_and_no_more(classifier: Graph) -> None:
    public = public_manifest(classifier)
    assert (public["name"], public["digest"], public["kind"]) == ("colours", classifier.digest, "classifier")
    assert public["calibration"].keys() == {"n", "data", "split", "digest", "quantiles"}
    assert public["recipe"] == {"name": "by-hand", "scale": "smoke"}
    assert not public.keys() & {"libraries", "source_revision", "schema_version"}
    json.dumps(public, allow_nan=False)
