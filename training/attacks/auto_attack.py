"""AutoAttack (Croce & Hein 2020) by its authors' own package, an optional extra: `pip install 'quarterturn[attacks]'`.

A 20-step PGD figure overstates robustness, by about three points on the model TRADES published (reference-facts).
"""

from __future__ import annotations

import importlib
import importlib.util

import torch
from torch import Tensor

from training.attacks.bare_network import BareNetwork

PACKAGE = "pyautoattack"
FEWEST_CLASSES = 4  # its targeted loss compares the four largest logits


def has_auto_attack() -> bool:
    """Return whether the package is installed."""
    return importlib.util.find_spec(PACKAGE) is not None


def auto_attack(
    network: BareNetwork, clean: Tensor, labels: Tensor, *, epsilon: float, seed: int, batch: int
) -> Tensor:
    """Return images within ``epsilon`` of ``clean``, attacked by the standard version: APGD-CE, APGD-T, FAB-T, Square.

    ``clean`` float32 [N, C, H, W] in [0, 1]. The network needs ``FEWEST_CLASSES`` classes at least. Raises
    ModuleNotFoundError without the package.
    """

    def logits_of(images: Tensor) -> Tensor:
        return network(images)["label"]

    package = importlib.import_module(PACKAGE)
    attack = package.AutoAttack(logits_of, norm="Linf", eps=epsilon, seed=seed, version="standard", device=clean.device)
    attack.verbose = False
    others = int(logits_of(clean[:1]).shape[1]) - 1
    for targeted in (attack.apgd_targeted, attack.fab):
        targeted.n_target_classes = min(targeted.n_target_classes, others)
    with torch.enable_grad():
        attacked: Tensor
        attacked, _ = attack.run_standard_evaluation(clean.contiguous(), labels, batch_size=batch)
    return attacked.detach()
