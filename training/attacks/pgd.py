"""Projected gradient ascent in an L-infinity ball (Madry et al. 2018; Section 3.1, equation 2).

The ball is around the **clean** image; each step is projected on it and clipped to [0, 1]. (The released code adds its
random start to the clean images in place, so its ball is around a noised image and reaches twice as far.)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LossOf = Callable[[Tensor], Tensor]

# A power of two, so that no sign changes at all: it keeps a small gradient from vanishing in float16.
_SCALE = 1024.0


def project(images: Tensor, clean: Tensor, epsilon: float) -> Tensor:
    """Return ``images`` clipped to within ``epsilon`` of ``clean`` and to [0, 1]; all of one shape."""
    return torch.minimum(torch.maximum(images, clean - epsilon), clean + epsilon).clamp(0, 1)


def pgd(loss_of: LossOf, clean: Tensor, noise: Tensor, *, epsilon: float, step: float, steps: int) -> Tensor:
    """Return images within ``epsilon`` of ``clean`` that raise ``loss_of``: ``steps`` steps along its gradient's sign.

    ``clean`` float32 [N, ...] in [0, 1]; the start is ``clean`` + ``noise`` of the same shape, projected. ``loss_of``
    returns a scalar, a sum over images, so that each is perturbed on its own. No parameter's ``grad`` is touched: only
    the gradient of the images is computed. The result is detached.
    """
    clean = clean.detach()
    attacked = project(clean + noise, clean, epsilon)
    for _ in range(steps):
        attacked.requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(loss_of(attacked) * _SCALE, attacked)
        attacked = project(attacked.detach() + step * gradient.sign(), clean, epsilon)
    return attacked
