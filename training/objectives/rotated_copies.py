"""Which rotations of each image a rotation head sees beside the classifier's upright one, and what it loses on them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from training.data.draws import Draws
from training.objectives.objective import Logits


def draw_rotations(views: Literal["all", "one"], count: int, device: torch.device, draws: Draws) -> Tensor:
    """Return quarter turns int64 [count, k]: all four, or one drawn evenly for each image."""
    return torch.arange(4, device=device).expand(count, 4) if views == "all" else draws.integers(4, 1)


def rotation_losses(logits: Logits, rotations: Tensor) -> Tensor:
    """Return each image's mean cross entropy over its last k views: [N], for ``rotations`` int64 [N, k].

    ``logits['rotation']`` [N * views, 4], the views of an image one after the other.
    """
    count, chosen = rotations.shape
    rotated = logits["rotation"].reshape(count, -1, 4)[:, -chosen:]
    each = functional.cross_entropy(rotated.flatten(0, 1), rotations.flatten(), reduction="none")
    return each.reshape(count, chosen).mean(dim=1)


def upright_logits(logits: Logits, count: int) -> Tensor:
    """Return the label logits of each image's first view: [count, K]."""
    return logits["label"].reshape(count, -1, logits["label"].shape[-1])[:, 0]
