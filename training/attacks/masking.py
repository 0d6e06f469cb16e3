"""Does a network hide its gradients? The signs of it that Athalye et al. (2018) list, as checks with figures.

A robustness that comes of masked gradients shows in attacks that should be stronger and do no better: more steps, a
larger radius, other random starts, or no gradient at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.attacks.target import PgdAttack, Target
from training.recipe_tables.attacks import MaskingSettings

SLACK = 0.02  # share of the images, or of a loss, by which a comparison may fail without being a sign
STEPS = 20
STEP_SHARE = 0.25  # of the radius; 2/255 for 8/255, as in Table 1

Checks = dict[str, Any]
Row = Mapping[str, Any]


def masking_checks(target: Target, settings: MaskingSettings, epsilon: float) -> Checks:
    """Return how the loss and the accuracy under PGD go with steps, radius and restarts, and what that says.

    ``epsilon`` of the range [0, 1]. 'steps' and 'epsilons': a row a strength, with mean cross entropy and accuracy on
    all images; 'restarts': accuracy after 1, 2, ... random starts, an image right only under all. 'checks': what should
    hold, by name, and whether it does.
    """
    indices = target.indices(settings.images)
    by_steps = []
    for steps in settings.steps:
        right, loss = _attack(target, indices, PgdAttack(epsilon, STEP_SHARE * epsilon, steps), f"{steps} steps")
        by_steps.append({"steps": steps, "loss": loss, "accuracy": float(right.mean())})
    by_epsilon = []
    for radius in settings.epsilons_255:
        attack = PgdAttack(radius / 255, STEP_SHARE * radius / 255, STEPS)
        right, loss = _attack(target, indices, attack, f"radius {radius:g}/255")
        by_epsilon.append({"epsilon_255": radius, "loss": loss, "accuracy": float(right.mean())})
    standing = np.ones(len(indices), dtype=np.bool_)
    by_restart = []
    for restart in range(settings.restarts):
        attack = PgdAttack(epsilon, STEP_SHARE * epsilon, STEPS, restart)
        standing &= _attack(target, indices, attack, f"random start {restart + 1}")[0]
        by_restart.append(float(standing.mean()))
    return {
        "count": len(indices),
        "epsilon_255": round(epsilon * 255, 6),
        "steps": by_steps,
        "epsilons": by_epsilon,
        "restarts": by_restart,
        "checks": judge(by_steps, by_epsilon, by_restart),
    }


def judge(by_steps: Sequence[Row], by_epsilon: Sequence[Row], by_restart: Sequence[float]) -> dict[str, bool]:
    """Return what should hold of a network that masks nothing, by name, and whether it does.

    Rows by ascending strength with 'loss' and 'accuracy'; ``by_restart``: accuracy after 1, 2, ... random starts.
    """
    return {
        "more steps raise the loss": not _falls([row["loss"] for row in by_steps]),
        "more steps lower the accuracy": not _rises([row["accuracy"] for row in by_steps]),
        "a larger radius raises the loss": not _falls([row["loss"] for row in by_epsilon]),
        "a larger radius lowers the accuracy": not _rises([row["accuracy"] for row in by_epsilon]),
        "the largest radius leaves nothing right": by_epsilon[-1]["accuracy"] <= SLACK,
        "random restarts add little": by_restart[0] - by_restart[-1] <= 2 * SLACK,
    }


def spsa_check(spsa: Row) -> tuple[str, bool]:
    """Return the name of the check that PGD is no weaker than SPSA on the same images, and whether it holds.

    ``spsa``: 'accuracy', 'accuracy_pgd20' and the 'count' of images. On few images one more or less is no sign.
    """
    spared = spsa["accuracy_pgd20"] - spsa["accuracy"]
    return "SPSA is not stronger than PGD", bool(spared <= max(SLACK, 1.5 / spsa["count"]))


def _attack(
    target: Target, indices: NDArray[np.int64], attack: PgdAttack, which: str
) -> tuple[NDArray[np.bool_], float]:
    return target.pgd(attack, f"checking for masked gradients: {which}", indices, wrong_too=True)


def _rises(accuracies: list[float]) -> bool:
    return any(later > earlier + SLACK for earlier, later in pairwise(accuracies))


def _falls(losses: list[float]) -> bool:
    return any(later < earlier * (1 - SLACK) for earlier, later in pairwise(losses))
