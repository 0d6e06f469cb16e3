"""What a lower precision changes: accuracy, AUROC and false alarms of a graph beside those of the float32 graph.

Both graphs score the same images: test images and the recipe's own out-of-distribution sets. All figures are fractions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.graphs.manifest import Calibration, Precision
from training.data.image_set import ImageSet
from training.data.ood import OodSet
from training.evaluation import (
    accuracy,
    evaluated_indices,
    false_alarms,
    is_exposed,
    normal_mask,
    out_of_distribution,
)
from training.graph_runner import GraphRunner
from training.metrics import Scores, auroc
from training.onnx_graph import ExportError
from training.recipe import Recipe
from training.training_run import load_split

MAX_LOSS = 0.01  # of accuracy, and of AUROC
TEST_IMAGES = 2000
ROUNDING = 1e-9  # of a difference of two shares: a loss of exactly max_loss is allowed
# The figures that may not fall, by their names in a manifest's metrics.
TITLES = {"accuracy": "accuracy", "ood_auroc_mean": "mean AUROC of sets", "one_class_auroc": "AUROC of other classes"}


@dataclass(frozen=True)
class PrecisionChange:
    """Figures of one network's graphs: ``lowered`` in ``precision``, beside ``fp32``; keys as in TITLES.

    ``set_auroc``: the lowered graph's AUROC of each set. ``false_alarm``: as in an evaluation, of the lowered graph
    with its own calibration. ``score_difference``: mean |difference| of the two anomaly scores over ``test_images``.
    ``max_loss``: how much of each figure may be lost.
    """

    precision: Precision
    fp32: dict[str, float]
    lowered: dict[str, float]
    set_auroc: dict[str, float]
    false_alarm: dict[str, Any]
    score_difference: float
    test_images: int
    max_loss: float

    def metrics(self) -> dict[str, Any]:
        """Return the lowered graph's own figures as a manifest's ``metrics`` hold them, the change among them."""
        found: dict[str, Any] = {
            **self.lowered,
            "false_alarm_rate": self.false_alarm["rate"],
            "false_alarm_alpha": self.false_alarm["alpha"],
            "ood_auroc": self.set_auroc,
        }
        change = {
            "test_images": self.test_images,
            "fp32": self.fp32,
            "change": {name: self.lowered[name] - value for name, value in self.fp32.items()},
            "score_difference": self.score_difference,
            "max_loss": self.max_loss,
        }
        return {name: value for name, value in found.items() if value not in (None, {})} | {"precision_change": change}

    def check(self) -> None:
        """Raise ExportError, naming the figures, where one is lower than fp32's by more than ``max_loss``."""
        lost = [
            f"{TITLES[name]} from {value:.4f} to {self.lowered[name]:.4f}"
            for name, value in self.fp32.items()
            if value - self.lowered[name] > self.max_loss + ROUNDING
        ]
        if lost:
            raise ExportError(
                f"{self.precision} loses more than {self.max_loss:g} on {self.test_images} test images: "
                f"{', '.join(lost)}; nothing was written (--max-loss allows more)"
            )


@dataclass(frozen=True)
class _Measured:
    """``figures`` by their names in TITLES; ``scores`` float32 of the test images; AUROC of each set."""

    figures: dict[str, float]
    scores: NDArray[np.float32]
    set_auroc: dict[str, float]


def measure_change(
    precision: Precision,
    reference: GraphRunner,
    runner: GraphRunner,
    recipe: Recipe,
    data_root: Path,
    calibration: Calibration,
    max_loss: float = MAX_LOSS,
) -> PrecisionChange:
    """Run the float32 graph ``reference`` and the lowered graph ``runner`` and return what the precision changes.

    On at most TEST_IMAGES test images (fewer by evaluation.limit), of each class its share, and the recipe's sets drawn
    in ratio to them; ``calibration`` is the lowered graph's. Raises DataError, and ExportError where the recipe and the
    data root have nothing to measure with.
    """
    test = load_split(recipe, data_root, "test")
    evaluated = evaluated_indices(test, min(recipe.evaluation.limit or TEST_IMAGES, TEST_IMAGES))
    normal = normal_mask(recipe, test)
    inside = normal[evaluated]
    sets, _ = out_of_distribution(recipe, data_root, int(inside.sum()))
    images = test.take(evaluated)
    counted = [drawn for drawn in sets if not is_exposed(recipe, drawn.name)]
    before = _measure(reference, "fp32", images, inside, counted)
    after = _measure(runner, precision, images, inside, counted)
    if not before.figures:
        raise ExportError(
            f"nothing says what {precision} loses: the graph does not classify, and there is no set and no other class "
            "to tell from the normal images (evaluation.ood)"
        )
    return PrecisionChange(
        precision=precision,
        fp32=before.figures,
        lowered=after.figures,
        set_auroc=after.set_auroc,
        false_alarm=false_alarms(recipe, calibration, after.scores, evaluated, normal),
        score_difference=float(np.abs(after.scores - before.scores).mean()),
        test_images=len(evaluated),
        max_loss=max_loss,
    )


def _measure(
    runner: GraphRunner, precision: Precision, images: ImageSet, inside: NDArray[np.bool_], sets: list[OodSet]
) -> _Measured:
    outputs = runner.score(images, f"{precision}: {len(images)} test images")
    scores = _finite(outputs["anomaly_score"], precision, "the test images")
    normal: Scores = scores[inside]
    set_auroc = {}
    for drawn in sets:
        outside = runner.score(drawn.images, f"{precision}: {drawn.name}")["anomaly_score"]
        set_auroc[drawn.name] = auroc(normal, _finite(outside, precision, drawn.name))
    figures: dict[str, float] = {}
    correct = accuracy(outputs, images.labels)
    if correct is not None:
        figures["accuracy"] = correct
    if set_auroc:
        figures["ood_auroc_mean"] = float(np.mean(list(set_auroc.values())))
    if not inside.all():
        figures["one_class_auroc"] = auroc(normal, scores[~inside])
    return _Measured(figures, scores, set_auroc)


def _finite(scores: NDArray[np.float32], precision: Precision, where: str) -> NDArray[np.float32]:
    bad = int((~np.isfinite(scores)).sum())
    if bad:
        raise ExportError(f"at {precision} {bad} of {len(scores)} anomaly scores of {where} are not finite")
    return scores
