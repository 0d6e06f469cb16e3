"""What every objective offers the trainer: its heads, how many views it makes of an image, and its loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from training.data.draws import Draws

Logits = dict[str, Tensor]
Network = Callable[[Tensor], Logits]
LabelLoss = Callable[[Tensor, Tensor], Tensor]  # (logits [N, K], labels) -> scalar


class Objective(Protocol):
    """A training objective over a batch of images.

    ``heads``: name -> classes of the network's heads. ``views_per_image``: how many views of an image go through the
    network in a step. An objective that attacks its images or exposes outliers is another module of this package with
    the same three members; what corrects for wrong labels is a LabelLoss of ``training.labels.correction``.
    """

    heads: dict[str, int]
    views_per_image: int

    def losses(self, network: Network, images: Tensor, labels: Tensor, draws: Draws) -> dict[str, Tensor]:
        """Return scalar losses by name; the one named 'loss' is minimised, the others are for the log.

        ``images`` uint8 [N, 3, size, size], augmented; ``labels`` int64 [N]. ``network`` takes float views in [0, 1].
        """
