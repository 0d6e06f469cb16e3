"""A classifier's accuracy under attack (Section 3.1, Table 1, Figure 2): the part 'adversarial' of evaluation.json.

Attacks see the classifier's loss alone, on the network in evaluation mode at float32, and their images are not rounded
to 256 levels. An image counts as right if it is right both clean and attacked.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from serving.graphs.providers import ProviderChoice
from training.attacks.auto_attack import FEWEST_CLASSES, PACKAGE, auto_attack, has_auto_attack
from training.attacks.masking import masking_checks, spsa_check
from training.attacks.spsa import spsa
from training.attacks.target import PgdAttack, Target
from training.data.image_set import ImageSet
from training.environment import describe_device
from training.recipe_tables.attacks import AdversarialEvaluationSettings, PgdEvaluationSettings

Section = dict[str, Any]


def evaluate_adversarial(
    network: nn.Module, settings: AdversarialEvaluationSettings, test: ImageSet, device: ProviderChoice = "auto"
) -> Section:
    """Attack ``network`` on images of ``test`` as ``settings`` say; ``network`` is moved to the device and frozen.

    Accuracies are fractions; each attack names its images ('count'), its settings and their clean accuracy. Keys:
    clean, pgd20, pgd100, sweep (a list, by radius), spsa, masking, auto_attack (None if not asked for, with 'missing'
    if its package is not there, or the classes are too few), conditions.
    """
    began = time.monotonic()
    place = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    target = Target(network, test, settings.seed, place)
    epsilon = settings.epsilon_255 / 255
    indices = target.indices(settings.pgd20.images)
    clean = target.clean(indices)
    section: Section = {
        "epsilon_255": settings.epsilon_255,
        "seed": settings.seed,
        "clean": {"accuracy": float(clean.mean()), "count": len(indices)},
        "pgd20": _pgd(target, settings.pgd20, epsilon, steps=20),
        "pgd100": _pgd(target, settings.pgd100, epsilon, steps=100),
        "sweep": _sweep(target, settings),
        "spsa": _spsa(target, settings, epsilon),
        "masking": masking_checks(target, settings.masking, epsilon),
        "auto_attack": _auto_attack(target, settings, epsilon),
    }
    name, holds = spsa_check(section["spsa"])
    section["masking"]["checks"][name] = holds
    section["conditions"] = {"device": describe_device(place), "seconds": round(time.monotonic() - began, 1)}
    return section


def _pgd(target: Target, settings: PgdEvaluationSettings, epsilon: float, steps: int) -> Section:
    attack = PgdAttack(epsilon, settings.step_255 / 255, steps)
    return _judge(target, attack, target.indices(settings.images), f"PGD, {steps} steps")


def _judge(target: Target, attack: PgdAttack, indices: NDArray[np.int64], description: str) -> Section:
    right, _ = target.pgd(attack, description, indices)
    return {
        "accuracy": float(right.mean()),
        "clean_accuracy": float(target.clean(indices).mean()),
        "count": len(indices),
        "epsilon_255": round(attack.epsilon * 255, 6),
        "steps": attack.steps,
        "step_255": round(attack.step * 255, 6),
    }


def _sweep(target: Target, settings: AdversarialEvaluationSettings) -> list[Section]:
    chosen = settings.strengths
    indices = target.indices(chosen.images)
    return [
        _judge(
            target,
            PgdAttack(radius / 255, chosen.step_share * radius / 255, chosen.steps),
            indices,
            f"PGD, {chosen.steps} steps, radius {radius:g}/255",
        )
        for radius in chosen.epsilons_255
    ]


def _spsa(target: Target, settings: AdversarialEvaluationSettings, epsilon: float) -> Section:
    chosen, generator = settings.spsa, target.generator()
    indices = target.indices(chosen.images)
    right = target.survivors(
        lambda images, labels: spsa(
            target.network,
            images,
            labels,
            epsilon=epsilon,
            step=chosen.step_255 / 255,
            steps=chosen.steps,
            samples=chosen.samples,
            delta=chosen.delta,
            generator=generator,
        ),
        "SPSA",
        indices,
    )
    pgd20, _ = target.pgd(PgdAttack(epsilon, settings.pgd20.step_255 / 255, 20), "PGD beside SPSA", indices)
    return {
        "accuracy": float(right.mean()),
        "accuracy_pgd20": float(pgd20.mean()),
        "clean_accuracy": float(target.clean(indices).mean()),
        "count": len(indices),
        "epsilon_255": settings.epsilon_255,
        **chosen.model_dump(include={"steps", "step_255", "samples", "delta"}),
    }


def _auto_attack(target: Target, settings: AdversarialEvaluationSettings, epsilon: float) -> Section | None:
    if settings.auto_attack_images == 0:
        return None
    if not has_auto_attack():
        return {"missing": f"{PACKAGE} is not installed; pip install 'quarterturn[attacks]'"}
    if target.classes < FEWEST_CLASSES:
        return {"missing": f"it needs {FEWEST_CLASSES} classes, and there are {target.classes}"}
    indices = target.indices(settings.auto_attack_images)
    right = target.survivors(
        lambda images, labels: auto_attack(
            target.network, images, labels, epsilon=epsilon, seed=settings.seed, batch=target.batch
        ),
        "AutoAttack",
        indices,
    )
    return {
        "accuracy": float(right.mean()),
        "clean_accuracy": float(target.clean(indices).mean()),
        "count": len(indices),
        "epsilon_255": settings.epsilon_255,
        "version": "standard",
    }
