"""SPSA: an attack that sees the network's outputs and no gradient (Uesato et al. 2018).

What it finds against a network whose gradients are masked, PGD misses; against others it is the weaker of the two.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from training.attacks.bare_network import BareNetwork
from training.attacks.pgd import project

_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8  # Adam's moments


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest other logit - the true one: logits [N, K], labels [N] -> [N], above 0 where the label is missed."""
    truth = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], float("-inf")).amax(dim=1)
    return others - truth


def spsa(
    network: BareNetwork,
    clean: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    step: float,
    steps: int,
    samples: int,
    delta: float,
    generator: np.random.Generator,
    views_per_pass: int = 512,
) -> Tensor:
    """Return images within ``epsilon`` of ``clean`` that raise the margin, without using a gradient.

    ``clean`` float32 [N, C, H, W] in [0, 1]. A step estimates the gradient by ``samples`` directions v of signs, drawn
    for each image: the mean of (margin(x + delta v) - margin(x - delta v)) v / (2 delta); Adam follows it by ``step``.
    It costs 2 x ``samples`` passes an image. Starts at the clean image.
    """
    return torch.cat(
        [
            _attack_one(network, image, label, epsilon, step, steps, samples, delta, generator, views_per_pass)
            for image, label in zip(torch.split(clean, 1), torch.split(labels, 1), strict=True)
        ]
    )


@torch.no_grad()
def _attack_one(
    network: BareNetwork,
    clean: Tensor,
    label: Tensor,
    epsilon: float,
    step: float,
    steps: int,
    samples: int,
    delta: float,
    generator: np.random.Generator,
    views_per_pass: int,
) -> Tensor:
    attacked, first, second = clean, torch.zeros_like(clean), torch.zeros_like(clean)
    for number in range(1, steps + 1):
        signs = generator.integers(0, 2, (samples, *clean.shape[1:]), dtype=np.int8) * 2 - 1
        directions = torch.from_numpy(signs.astype(np.float32)).to(clean.device)
        tried = torch.cat([attacked + delta * directions, attacked - delta * directions])
        found = torch.cat(
            [margin(network(part)["label"], label.expand(len(part))) for part in torch.split(tried, views_per_pass)]
        )
        slopes = (found[:samples] - found[samples:]) / (2 * delta)
        gradient = (slopes[:, None, None, None] * directions).mean(dim=0, keepdim=True)
        first = _FIRST * first + (1 - _FIRST) * gradient
        second = _SECOND * second + (1 - _SECOND) * gradient.square()
        pace = first / (1 - _FIRST**number) / ((second / (1 - _SECOND**number)).sqrt() + _TINY)
        attacked = project(attacked + step * pace, clean, epsilon)
    return attacked
