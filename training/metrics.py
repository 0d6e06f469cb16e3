"""Detection metrics, out-of-distribution as the positive class; a higher score is more anomalous. All in [0, 1]."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

Scores = NDArray[np.floating[Any]]
RECALL = 0.95


@dataclass(frozen=True)
class Detection:
    """How well scores tell out from in: ``auroc`` and ``aupr`` high is good, ``fpr95`` low is good."""

    auroc: float
    aupr: float
    fpr95: float

    def as_dict(self) -> dict[str, float]:
        """Return the three by name."""
        return asdict(self)


def detection(normal: Scores, anomalous: Scores) -> Detection:
    """Return AUROC, AUPR and FPR95 of the scores of normal [N] and anomalous [M] images, N and M at least 1."""
    return Detection(auroc(normal, anomalous), aupr(normal, anomalous), fpr_at_95_tpr(normal, anomalous))


def auroc(normal: Scores, anomalous: Scores) -> float:
    """Probability that an anomalous image scores above a normal one, ties counted half. Chance: 0.5."""
    return float(roc_auc_score(*_positives(normal, anomalous)))


def aupr(normal: Scores, anomalous: Scores) -> float:
    """Average precision with anomalous as positive. Chance: M / (N + M), so it depends on the ratio of out to in."""
    return float(average_precision_score(*_positives(normal, anomalous)))


def fpr_at_95_tpr(normal: Scores, anomalous: Scores) -> float:
    """Share of normal images flagged by the highest threshold that flags at least 95 % of the anomalous ones."""
    false_rate, true_rate, _ = roc_curve(*_positives(normal, anomalous), drop_intermediate=False)
    return float(false_rate[int(np.argmax(true_rate >= RECALL))])


def _positives(normal: Scores, anomalous: Scores) -> tuple[NDArray[np.int64], Scores]:
    """Return labels (1: anomalous) and scores of both sets. Raises ValueError if one is empty or not finite."""
    if len(normal) == 0 or len(anomalous) == 0:
        raise ValueError(f"detection needs images of both kinds, not {len(normal)} normal and {len(anomalous)} others")
    scores = np.concatenate([normal, anomalous])
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite")
    return np.concatenate([np.zeros(len(normal), np.int64), np.ones(len(anomalous), np.int64)]), scores
