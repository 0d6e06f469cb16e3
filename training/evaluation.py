"""A run's own evaluation: accuracy, out-of-distribution detection, one-class AUROC, false alarms; RUN/evaluation.json.

Rates and areas in the file are fractions in [0, 1]; only the figures under 'published', as the paper prints them, are
percentages. Every detector's score is higher for anomalous images; out-of-distribution is the positive class.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.graphs.calibration import p_values
from serving.graphs.manifest import Calibration
from serving.graphs.providers import ProviderChoice
from training.attacks.evaluation import evaluate_adversarial
from training.calibrate import calibrate
from training.corruptions.evaluation import corrupted_test_images, evaluate_corruptions
from training.data.image_set import DataError, ImageSet, class_index
from training.data.ood import OodSet, load_ood, wanted_count
from training.data.splits import halves, share_of_each_class
from training.detectors import detector_scores
from training.environment import library_versions, source_revision
from training.evaluation_file import EVALUATION_FILE
from training.graph_runner import GraphRunner, Outputs
from training.metrics import Scores, detection
from training.onnx_graph import scorer_graph
from training.progress import note
from training.published import beside_published
from training.recipe import EvaluationSettings, Recipe
from training.run_folder import RunError, RunFolder, load_network, weights_digest
from training.score_curves import score_curves
from training.scorer import Scorer, build_scorer
from training.training_run import calibration_images, fitting_of, load_split

ALPHA = 0.05
METRICS = ("auroc", "aupr", "fpr95")

Evaluation = dict[str, Any]


def evaluate_run(
    run: RunFolder, data_root: Path, *, device: ProviderChoice = "auto", settings: EvaluationSettings | None = None
) -> Evaluation:
    """Evaluate the run's latest checkpoint on the data of ``data_root``, write RUN/evaluation.json and return it.

    ``settings``: other than those of the run's recipe. Out-of-distribution sets that the root lacks are listed under
    'missing'; one whose images the training was exposed to is listed under 'exposed' and not in the means. Raises
    DataError and RunError; an earlier evaluation.json is replaced only by a complete one.
    """
    began = time.monotonic()
    network, recipe = load_network(run)
    weights = weights_digest(network.state_dict())
    if settings is not None:
        recipe = recipe.model_copy(update={"evaluation": settings})
    scorer, trained = build_scorer(network, recipe), run.training_record()
    test = load_split(recipe, data_root, "test", trained)
    note_left_out(test)
    evaluated = evaluated_indices(test, recipe.evaluation.limit)
    normal = normal_mask(recipe, test)
    sets, missing = out_of_distribution(recipe, data_root, int(normal[evaluated].sum()))
    corruptions = recipe.evaluation.corruptions
    corrupted = corrupted_test_images(corruptions, data_root, test, recipe.data.size) if corruptions else None
    images, split = calibration_images(recipe, data_root, trained)
    runner = GraphRunner(scorer_graph(scorer, recipe.data.size).SerializeToString(), scorer.views, device)

    outputs = runner.score(test.take(evaluated), f"scoring {len(evaluated)} test images")
    detectors = detector_scores(scorer, outputs)
    inside = normal[evaluated]
    ood, outside = _judge_sets(runner, scorer, {name: scores[inside] for name, scores in detectors.items()}, sets)
    scores = outputs["anomaly_score"]
    if not inside.all():
        outside["other classes"] = scores[~inside]
    exposed = [name for name in ood if is_exposed(recipe, name)]
    calibration = calibrate(runner, images, split, recipe.data.in_class)
    checkpoint = run.load_checkpoint()
    evaluation: Evaluation = {
        "recipe": recipe.name,
        "scale": recipe.scale,
        "seed": run.environment()["seed"],
        "kind": "one_class" if recipe.evaluation.score == "transformation" else "classifier",
        "score": recipe.evaluation.score,
        "settings": recipe.evaluation.model_dump(mode="json"),
        "in_distribution": {
            "data": test.name,
            "split": test.split,
            "in_class": recipe.data.in_class,
            "available": int(normal.sum()),
            "count": int(inside.sum()),
            "digest": test.digest,
        },
        "accuracy": accuracy(outputs, test.labels[evaluated]),
        "one_class": _one_class(recipe, detectors, inside),
        "ood_ratio": recipe.evaluation.ood_ratio,
        "ood": ood,
        "ood_mean": _means([row for name, row in ood.items() if name not in exposed]),
        "exposed": exposed,
        "missing": missing,
        "curves": score_curves(scores[inside], outside),
        "false_alarm": false_alarms(recipe, calibration, scores, evaluated, normal),
    }
    if corruptions is not None:
        evaluation["corruptions"] = evaluate_corruptions(network, corruptions, corrupted, recipe.data.size, device)
    if recipe.evaluation.adversarial is not None:
        evaluation["adversarial"] = evaluate_adversarial(network, recipe.evaluation.adversarial, test, device)
    evaluation["published"] = beside_published(recipe, evaluation)
    evaluation["conditions"] = {
        "device": runner.device,
        "seconds": round(time.monotonic() - began, 1),
        "images_scored": len(evaluated) + sum(len(drawn.images) for drawn in sets),
        "views_per_image": scorer.views,
        "checkpoint_step": int(checkpoint["step"]),
        "weights": weights,
        "source_revision": source_revision(),
        "libraries": library_versions(),
    }
    run.write_json(EVALUATION_FILE, evaluation)
    return evaluation


def current_evaluation(run: RunFolder) -> Evaluation | None:
    """Return what ``evaluate_run`` wrote, if it is there and of the run's latest checkpoint. Raises RunError.

    The weights tell: a step is the same in every training of this length. Evaluations of earlier versions, which do not
    name the weights, are judged by the step.
    """
    path = run.path / EVALUATION_FILE
    if not path.is_file():
        return None
    try:
        evaluation: Evaluation = json.loads(path.read_text(encoding="utf-8"))
        conditions = evaluation["conditions"]
        step, weights = conditions["checkpoint_step"], conditions.get("weights")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is damaged; evaluate the run again") from error
    checkpoint = run.load_checkpoint()
    same = step == checkpoint["step"] and weights in (None, weights_digest(checkpoint["network"]))
    return evaluation if same else None


def evaluation_summary(evaluation: Evaluation) -> dict[str, Any]:
    """Return the headline figures, as a manifest's ``metrics`` holds them: fractions, for the graph's own score."""
    score = evaluation["score"]
    summary: dict[str, Any] = {
        "accuracy": evaluation["accuracy"],
        "ood_auroc_mean": evaluation["ood_mean"].get(score, {}).get("auroc"),
        "false_alarm_rate": evaluation["false_alarm"]["rate"],
        "false_alarm_alpha": evaluation["false_alarm"]["alpha"],
        "ood_auroc": {name: found[score]["auroc"] for name, found in evaluation["ood"].items()},
    }
    if evaluation["one_class"] is not None:
        summary["one_class_auroc"] = evaluation["one_class"][score]["auroc"]
    return {name: value for name, value in summary.items() if value not in (None, {})}


def evaluated_indices(images: ImageSet, limit: int) -> NDArray[np.int64]:
    """Return ascending indices of about ``limit`` images (0: all), of each class its share and at least one."""
    return share_of_each_class(images.labels, limit)


def normal_mask(recipe: Recipe, test: ImageSet) -> NDArray[np.bool_]:
    """Return which of all test images are normal: those of data.in_class, or all. Raises DataError if none is."""
    if recipe.data.in_class is None:
        return np.ones(len(test), dtype=np.bool_)
    normal = np.asarray(test.labels == class_index(test.classes, recipe.data.in_class))
    if not normal.any():
        raise DataError(
            f"the test images of {test.name!r} hold none of class {recipe.data.in_class!r}, which is what is normal: "
            f"put some into {test.name}/{test.split}"
        )
    return normal


def is_exposed(recipe: Recipe, name: str) -> bool:
    """Say whether the training saw images of the out-of-distribution set ``name``, which then counts in no mean."""
    return recipe.outliers is not None and name == recipe.outliers.data


def out_of_distribution(recipe: Recipe, root: Path, normal: int) -> tuple[list[OodSet], list[str]]:
    """Load the recipe's sets, each drawn to its ratio of ``normal`` images: (sets, names that the root lacks).

    All are read before anything is scored, so that an unreadable one (DataError) costs no time.
    """
    settings, count = recipe.evaluation, wanted_count(normal, recipe.evaluation.ood_ratio)
    loaded = {
        name: load_ood(root, name, fitting_of(recipe), count, skip_unreadable=recipe.data.skip_unreadable)
        for name in settings.ood
    }
    for found in loaded.values():
        note_left_out(found.images if found else None)
    return [found for found in loaded.values() if found], [name for name, found in loaded.items() if found is None]


def note_left_out(images: ImageSet | None) -> None:
    """Name the files that did not decode and were left out, as data.skip_unreadable asks."""
    for skipped in images.skipped if images else ():
        note(f"left out: {skipped}")


def _judge_sets(
    runner: GraphRunner, scorer: Scorer, normal: dict[str, NDArray[Any]], sets: Sequence[OodSet]
) -> tuple[dict[str, dict[str, Any]], dict[str, Scores]]:
    """Return each set's figures by detector, and its anomaly scores."""
    table: dict[str, dict[str, Any]] = {}
    anomaly_scores: dict[str, Scores] = {}
    for drawn in sets:
        outputs = runner.score(drawn.images, f"scoring {drawn.name}")
        anomaly_scores[drawn.name] = outputs["anomaly_score"]
        found: dict[str, Any] = {"count": len(drawn.images), "available": drawn.available, "source": drawn.source}
        for detector, scores in detector_scores(scorer, outputs).items():
            found[detector] = detection(normal[detector], scores).as_dict()
        table[drawn.name] = found
    return table, anomaly_scores


def _means(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return each detector's metrics averaged over the sets, every set counted alike."""
    detectors = [name for name, value in rows[0].items() if isinstance(value, dict)] if rows else []
    return {
        detector: {metric: float(np.mean([row[detector][metric] for row in rows])) for metric in METRICS}
        for detector in detectors
    }


def accuracy(outputs: Outputs, labels: NDArray[np.int64]) -> float | None:
    """Return the share of images classified right; None for a graph that does not classify."""
    if "probabilities" not in outputs:
        return None
    return float(np.mean(outputs["probabilities"].argmax(axis=1) == labels))


def _one_class(recipe: Recipe, detectors: dict[str, NDArray[Any]], inside: NDArray[np.bool_]) -> dict[str, Any] | None:
    """Return the detection of the test images of other classes, for a model of one class; None where there are none."""
    if recipe.data.in_class is None or inside.all():
        return None
    judged: dict[str, Any] = {"in_count": int(inside.sum()), "out_count": int((~inside).sum())}
    for detector, scores in detectors.items():
        judged[detector] = detection(scores[inside], scores[~inside]).as_dict()
    return judged


def false_alarms(
    recipe: Recipe,
    calibration: Calibration,
    scores: NDArray[np.float32],
    evaluated: NDArray[np.int64],
    normal: NDArray[np.bool_],
) -> dict[str, Any]:
    """Return the share of normal test images with a p-value of ALPHA or less; none of them calibrates.

    ``scores`` are those of the test images at ``evaluated``; ``normal`` says of all test images which are normal.
    """
    reported = np.flatnonzero(normal)
    if recipe.calibration.source == "test_half":
        reported = reported[halves(len(reported), recipe.calibration.seed)[1]]
    judged = scores[np.isin(evaluated, reported)]
    alarms = p_values(judged, np.asarray(calibration.scores, np.float32)) <= ALPHA
    return {
        "alpha": ALPHA,
        "rate": float(alarms.mean()) if len(judged) else None,
        "count": len(judged),
        "calibration_n": calibration.n,
        "calibration_split": calibration.split,
    }
