"""Transformation prediction (Section 4.2.1): tell how an image was rotated and shifted, one softmax head each."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.data.augmentation import to_network
from training.data.draws import Draws
from training.data.to_device import to_device
from training.objectives.objective import Network
from training.recipe import TransformationSettings
from training.views import ViewGrid


class TransformationPrediction:
    """Mean over the heads of the cross entropy of each view's true rotation, vertical and horizontal translation.

    A step shows each image under all rotations of ``translations_per_image`` of the grid's translations, drawn without
    repetition.
    """

    def __init__(self, settings: TransformationSettings, size: int, channels_last: bool = True) -> None:
        self._channels_last = channels_last
        self._grid = ViewGrid.transformations(size, settings.order)
        self._rotations = len(self._grid.rotations)
        self._translations = len(self._grid) // self._rotations
        self._chosen = settings.translations_per_image
        self.heads = self._grid.heads
        self.views_per_image = self._rotations * self._chosen

    def losses(self, network: Network, images: Tensor, labels: Tensor, draws: Draws) -> dict[str, Tensor]:
        """Return 'loss' and the cross entropy of each head by its name. ``labels`` are not used."""
        translations = draws.distinct(self._chosen, self._translations)
        rotations = torch.arange(self._rotations, device=images.device)
        views = (rotations[None, :, None] * self._translations + translations[:, None, :]).flatten(1)
        truth = to_device(self._grid.labels(), images.device)[views.flatten()]
        logits = network(to_network(self._grid.take(images, views), self._channels_last))
        parts = {
            head: functional.cross_entropy(logits[head], truth[:, column]) for column, head in enumerate(self.heads)
        }
        return {"loss": torch.stack(list(parts.values())).mean(), **parts}
