"""Classification with auxiliary rotations (Sections 3.1 and 4.1): cross entropy + weight x rotation cross entropy."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.data.augmentation import to_network
from training.data.draws import Draws
from training.data.to_device import to_device
from training.objectives.objective import LabelLoss, Network
from training.recipe import ClassificationSettings
from training.views import ViewGrid


class Classification:
    """Cross entropy of the upright view's label + ``rotation_weight`` x the mean rotation cross entropy (equation 4).

    The rotation head sees all four rotations of each image or, with 'upright_and_one', the upright view and one random
    other, weighted so that the expected loss is the same mean over the four. ``label_loss`` may replace the cross
    entropy of the labels, e.g. by one that corrects for wrong ones.
    """

    def __init__(
        self,
        settings: ClassificationSettings,
        classes: int,
        channels_last: bool = True,
        label_loss: LabelLoss = functional.cross_entropy,
    ) -> None:
        self._settings = settings
        self._label_loss = label_loss
        self._channels_last = channels_last
        self._grid = ViewGrid()
        self.heads = {"label": classes}
        self.views_per_image = 1
        if settings.rotation_weight > 0:
            self.heads |= self._grid.heads
            self.views_per_image = 4 if settings.rotation_views == "all" else 2

    def losses(self, network: Network, images: Tensor, labels: Tensor, draws: Draws) -> dict[str, Tensor]:
        """Return 'loss', 'label' (cross entropy of the classes) and, with a rotation head, 'rotation'."""
        if self._settings.rotation_weight == 0:
            logits = network(to_network(images, self._channels_last))
            loss = self._label_loss(logits["label"], labels)
            return {"loss": loss, "label": loss}
        views, weights = self._choose_views(len(images), images.device, draws)
        logits = network(to_network(self._grid.take(images, views), self._channels_last))
        upright = logits["label"].reshape(*views.shape, -1)[:, 0]
        label_loss = self._label_loss(upright, labels)
        each = functional.cross_entropy(logits["rotation"], views.flatten(), reduction="none")
        rotation_loss = (each.reshape(views.shape) * weights).sum(dim=1).mean()
        return {
            "loss": label_loss + self._settings.rotation_weight * rotation_loss,
            "label": label_loss,
            "rotation": rotation_loss,
        }

    def _choose_views(self, count: int, device: torch.device, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return views int64 [count, k], the upright one first, and their weights [k], which sum to 1."""
        if self._settings.rotation_views == "all":
            return torch.arange(4, device=device).expand(count, 4), torch.full((4,), 0.25, device=device)
        other = 1 + draws.integers(3)
        views = torch.stack([torch.zeros_like(other), other], dim=1)
        return views, to_device(torch.tensor([0.25, 0.75]), device)
