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


@torch.no_grad()
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
    found = []
    for image, label in zip(torch.split(clean, 1), torch.split(labels, 1), strict=True):
        attacked, first, second = image, torch.zeros_like(image), torch.zeros_like(image)
        for number in range(1, steps + 1):
            signs = generator.integers(0, 2, (samples, *image.shape[1:]), dtype=np.int8) * 2 - 1
            directions = torch.from_numpy(signs.astype(np.float32)).to(image.device)
            tried = torch.cat([attacked + delta * directions, attacked - delta * directions])
            parts = [network(part)["label"] for part in torch.split(tried, views_per_pass)]
            margins = margin(torch.cat(parts), label.expand(len(tried)))
            slopes = (margins[:samples] - margins[samples:]) / (2 * delta)
            gradient = (slopes[:, None, None, None] * directions).mean(dim=0, keepdim=True)
            first = _FIRST * first + (1 - _FIRST) * gradient
            second = _SECOND * second + (1 - _SECOND) * gradient.square()
            pace = first / (1 - _FIRST**number) / ((second / (1 - _SECOND**number)).sqrt() + _TINY)
            attacked = project(attacked + step * pace, image, epsilon)
        found.append(attacked)
    return torch.cat(found)
