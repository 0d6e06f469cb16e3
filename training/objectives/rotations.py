"""Rotation prediction alone (RotNet; the pre-training of Section 3.3): tell which quarter turn a view underwent."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.data.augmentation import to_network
from training.data.draws import Draws
from training.objectives.objective import Network
from training.views import ViewGrid


class RotationPrediction:
    """Mean cross entropy over the four rotations of each image (equation 4); the labels are not used."""

    def __init__(self, channels_last: bool = True) -> None:
        self._channels_last = channels_last
        self._grid = ViewGrid()
        self.heads = self._grid.heads
        self.views_per_image = len(self._grid)

    def losses(self, network: Network, images: Tensor, labels: Tensor, draws: Draws) -> dict[str, Tensor]:
        """Return 'loss' and, the same, 'rotation'."""
        views = torch.arange(len(self._grid), device=images.device).expand(len(images), -1)
        logits = network(to_network(self._grid.take(images, views), self._channels_last))
        loss = functional.cross_entropy(logits["rotation"], views.flatten())
        return {"loss": loss, "rotation": loss}
