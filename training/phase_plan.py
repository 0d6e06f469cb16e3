"""Which phases a recipe's run has (Section 3.3): rotation pre-training, training on untrusted labels, the last one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from training.data.image_set import ImageSet
from training.environment import is_first_process
from training.labels.correction import (
    CorrectedCrossEntropy,
    class_probabilities,
    forward_estimate,
    gold_estimate,
    with_trust,
)
from training.labels.corruption import CorruptedLabels, corrupted_labels, corruption_matrix
from training.networks import build_network
from training.phases import Phase
from training.recipe import Recipe
from training.run_folder import RunFolder, heads_of

PRETRAINING, UNTRUSTED = "pretraining", "untrusted"
CORRUPTION_FILE = "corruption.json"


def plan_phases(recipe: Recipe, images: ImageSet, run: RunFolder) -> tuple[list[Phase], dict[str, Any]]:
    """Return the phases of a run on ``images`` (cleanly labelled), and what the run records of its labels.

    Every phase after the pre-training starts from its weights, or from fresh ones where there is none. So does the last
    phase: the one on untrusted labels only serves to estimate the corruption. Raises DataError.
    """
    phases, start = [], None
    if recipe.pretraining is not None:
        phases.append(Phase(PRETRAINING, pretraining_recipe(recipe), images, shareable=True))
        start = PRETRAINING
    if recipe.labels is None:
        return [*phases, Phase("", recipe, images, start)], {}
    given = corrupted_labels(images, recipe.labels)
    record = {"labels": given.record(recipe.labels)}
    noisy = replace(images, labels=given.labels)
    if recipe.labels.correction == "none":
        return [*phases, Phase("", recipe, noisy, start)], record
    untrusted = noisy.take(np.flatnonzero(~given.trusted))
    targets = replace(images, labels=with_trust(given.labels, given.trusted))
    correction = partial(_corrected_loss, recipe, images, given, run)
    phases += [Phase(UNTRUSTED, recipe, untrusted, start), Phase("", recipe, targets, start, correction)]
    return phases, record


def pretraining_recipe(recipe: Recipe) -> Recipe:
    """Return the pre-training of ``recipe`` as a recipe of its own: the rotation loss alone, on the same images.

    It holds nothing that does not decide its weights, so that recipes which pre-train alike have the same one.
    """
    settings = recipe.settings()
    kept = {name: settings[name] for name in ("network", "data", "augmentation", "calibration", "trainer", "scale")}
    return Recipe.model_validate(
        {
            **kept,
            "name": "rotation-pretraining",
            "title": "Pre-training with the rotation loss alone",
            "section": "3.3",
            "targets": [],
            "row": "",
            "method": "rotation-pretraining",
            "objective": {"kind": "rotations"},
            "optimiser": settings["pretraining"],
            "evaluation": {"score": "transformation", "ood": [], "ood_ratio": 1.0},
            "published": [],
        }
    )


def _corrected_loss(
    recipe: Recipe, images: ImageSet, given: CorruptedLabels, run: RunFolder, device: torch.device
) -> CorrectedCrossEntropy:
    """Estimate the corruption with the network of the phase on untrusted labels, and record the estimate."""
    assert recipe.labels is not None
    classes = len(images.classes)
    network = build_network(recipe.network, heads_of(recipe, classes))
    network.load_state_dict(replace(run, phase=UNTRUSTED).load_checkpoint()["network"])
    if recipe.labels.correction == "glc":
        trusted = np.flatnonzero(given.trusted)
        estimate = gold_estimate(class_probabilities(network, images.take(trusted), device), given.labels[trusted])
    else:
        estimate = forward_estimate(class_probabilities(network, images, device))
    if is_first_process():
        truth = corruption_matrix(classes, recipe.labels.strength)
        record = {
            "correction": recipe.labels.correction,
            "strength": recipe.labels.strength,
            "mean_absolute_error": float(np.abs(estimate - truth).mean()),
            "estimate": estimate.round(6).tolist(),
        }
        run.write_json(CORRUPTION_FILE, record)
    return CorrectedCrossEntropy(estimate)
