"""ROC curves and histograms of anomaly scores, small enough for evaluation.json; what the report's figures are of."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import roc_curve

from training.metrics import Scores

# False positive rates of every stored curve: dense near 0, where an alarm works.
FALSE_POSITIVE_RATES = np.unique(np.concatenate([np.linspace(0, 0.05, 26), np.linspace(0, 1, 101)]))
BINS = 50


def score_curves(normal: Scores, others: dict[str, Scores]) -> dict[str, Any]:
    """Return curves of the scores of ``normal`` images [N] against those of each set of ``others``; {} if none.

    'false_positive_rate' [P] ascending and, by set, 'true_positive_rate' [P]: the largest share of the set flagged at
    no more than that share of normal images. 'bin_edges' [BINS + 1] and 'counts' of images a bin: 'normal' and each
    set. The edges span all scores.
    """
    if not others:
        return {}
    edges = np.linspace(*_range([normal, *others.values()]), BINS + 1)
    return {
        "false_positive_rate": [round(float(rate), 4) for rate in FALSE_POSITIVE_RATES],
        "true_positive_rate": {name: _true_positive_rates(normal, scores) for name, scores in others.items()},
        "bin_edges": [float(edge) for edge in edges],
        "counts": {
            name: [int(count) for count in np.histogram(scores, edges)[0]]
            for name, scores in {"normal": normal, **others}.items()
        },
    }


def _range(scores: list[Scores]) -> tuple[float, float]:
    low, high = min(float(part.min()) for part in scores), max(float(part.max()) for part in scores)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _true_positive_rates(normal: Scores, anomalous: Scores) -> list[float]:
    labels = np.concatenate([np.zeros(len(normal), np.int64), np.ones(len(anomalous), np.int64)])
    scores = np.concatenate([normal, anomalous])
    false_rates, true_rates, _ = roc_curve(labels, scores, drop_intermediate=False)
    places = np.searchsorted(false_rates, FALSE_POSITIVE_RATES + 1e-12, side="right") - 1
    return [round(float(rate), 4) for rate in true_rates[places]]
