"""Anomaly detectors read off a graph's outputs: the graph's own score beside simpler ones and each head alone."""

from __future__ import annotations

from training.graph_runner import Outputs
from training.metrics import Scores
from training.scorer import ClassifierScorer, Scorer

TITLES = {
    "msp": "MSP baseline",
    "kl": "-KL",
    "rotation_loss": "rotation loss",
    "kl_rotation": "-KL + rotation",
    "transformation": "all heads",
    "rotation": "rotation head",
    "vertical": "vertical head",
    "horizontal": "horizontal head",
}


def detector_scores(scorer: Scorer, outputs: Outputs) -> dict[str, Scores]:
    """Return each detector's scores [N], higher more anomalous, by the names in ``TITLES``.

    A classifier: 'msp' = -max p, 'kl' = -KL[U || p], and with a rotation head 'rotation_loss' and 'kl_rotation'. A
    transformation predictor: 'transformation', and each head's sum of probabilities, negated, by the head's name.
    """
    if isinstance(scorer, ClassifierScorer):
        found: dict[str, Scores] = {"msp": -outputs["probabilities"].max(axis=1), "kl": -outputs["kl_uniform"]}
        if scorer.grid is not None:
            found["rotation_loss"] = outputs["rotation_loss"]
            found["kl_rotation"] = found["kl"] + found["rotation_loss"]
        return found
    heads = outputs["view_probabilities"].reshape(len(outputs["anomaly_score"]), -1, len(scorer.grid.heads))
    return {
        "transformation": outputs["anomaly_score"],
        **{head: -heads[:, :, column].sum(axis=1) for column, head in enumerate(scorer.grid.heads)},
    }
