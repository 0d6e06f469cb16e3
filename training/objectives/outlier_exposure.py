"""Outlier Exposure around any objective: on outliers the classes' softmax is drawn to the uniform distribution."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from training.data.augmentation import to_network
from training.data.draws import Draws
from training.objectives.objective import Logits, Network, Objective


class Outliers(Protocol):
    """Where a step's outliers come from."""

    def draw(self, draws: Draws) -> Tensor:
        """Return uint8 [M, 3, size, size], augmented."""


class OutlierExposure:
    """The inner objective's loss + ``weight`` x the cross entropy from uniform to softmax on outliers (Section 4.1).

    Hendrycks, Mazeika & Dietterich 2019, 'Deep Anomaly Detection with Outlier Exposure'; Section 4.1 says that
    'combining the two could yield further benefits'. The outliers, upright, go through the network in one batch with
    the inner objective's views, as in that paper's code, so that batch statistics do not tell them apart.
    """

    def __init__(
        self, inner: Objective, outliers: Outliers, weight: float, per_image: int, channels_last: bool = True
    ) -> None:
        self._inner, self._outliers, self._weight = inner, outliers, weight
        self._channels_last = channels_last
        self.heads = inner.heads
        self.views_per_image = inner.views_per_image + per_image

    def losses(self, network: Network, images: Tensor, labels: Tensor, draws: Draws) -> dict[str, Tensor]:
        """Return the inner objective's losses with 'loss' raised by the weighted 'outliers'."""
        shown = to_network(self._outliers.draw(draws), self._channels_last)
        found: list[Tensor] = []

        def with_outliers(views: Tensor) -> Logits:
            logits = network(torch.cat([views, shown]))
            found.append(logits["label"][len(views) :])
            return {head: values[: len(views)] for head, values in logits.items()}

        losses = self._inner.losses(with_outliers, images, labels, draws)
        outlier_loss = uniform_cross_entropy(found[0])
        return {**losses, "loss": losses["loss"] + self._weight * outlier_loss, "outliers": outlier_loss}


def uniform_cross_entropy(logits: Tensor) -> Tensor:
    """Mean over images of -(1/K) sum_c log p_c, logits [N, K]: at least log K, which a uniform softmax reaches."""
    return -torch.log_softmax(logits.to(torch.float32), dim=-1).mean()
