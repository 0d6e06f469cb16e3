"""The paper's scores, from logits. Natural logarithms, float32 log-softmax; a higher anomaly score is more anomalous.

Sections 4.1 (classifier) and 4.2.1 (transformations). The text of 4.1 prints KL[U || p] + rotation loss; KL[U || p] is
large for confident, ordinary images, and the released code subtracts it. So does this module.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def log_probabilities(logits: Tensor) -> Tensor:
    """Return log softmax over the last axis, in float32 whatever the type of ``logits``."""
    return functional.log_softmax(logits.to(torch.float32), dim=-1)


def kl_uniform(logits: Tensor) -> Tensor:
    """KL[U || p] = -log K - (1/K) sum_c log p_c of logits [N, K] -> [N], at least 0. Confident is high: NORMAL."""
    return -log_probabilities(logits).mean(dim=-1) - math.log(logits.shape[-1])


def max_softmax_score(logits: Tensor) -> Tensor:
    """-max_c p_c of logits [N, K] -> [N] in [-1, -1/K] (the baseline of Hendrycks & Gimpel 2017)."""
    return -log_probabilities(logits).exp().amax(dim=-1)


def rotation_loss(logits: Tensor) -> Tensor:
    """Mean cross entropy of the true rotations: logits [N, R, R] (view r is rotated by r) -> [N], at least 0."""
    return -torch.diagonal(log_probabilities(logits), dim1=-2, dim2=-1).mean(dim=-1)


def true_probabilities(logits: dict[str, Tensor], labels: Tensor) -> Tensor:
    """Softmax probability of each view's true transformation under each head.

    ``logits``: head name -> [N, views, classes of the head]; ``labels`` int64 [views, heads], heads in the order of
    ``logits``. Returns [N, views, heads] in [0, 1].
    """
    columns = []
    for column, head in enumerate(logits.values()):
        truth = functional.one_hot(labels[:, column], head.shape[-1]).to(torch.float32)
        columns.append((log_probabilities(head).exp() * truth).sum(dim=-1))
    return torch.stack(columns, dim=-1)


def transformation_score(view_probabilities: Tensor) -> Tensor:
    """Minus the sum of ``true_probabilities`` over views and heads: [N, ...] -> [N], in [-views x heads, 0].

    Section 4.2.1's sum is high for normal images; its negative is the anomaly score (-108 to 0 for 4 x 3 x 3 x 3).
    """
    return -view_probabilities.flatten(1).sum(dim=1)
