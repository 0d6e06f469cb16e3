"""Linear softmax heads, one a question, all on the same penultimate vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Heads(nn.Module):
    """Named linear heads: features [N, inputs] -> {name: logits [N, classes]}. Biases start at zero.

    They compute in float32 in mixed precision too: in bfloat16 logits lie 0.016 apart, and where those of an attacked
    image round to the clean one's, the gradient of their divergence (TRADES) is zero and the attack stands still.
    """

    def __init__(self, inputs: int, classes: dict[str, int]) -> None:
        super().__init__()
        self.linear = nn.ModuleDict({name: nn.Linear(inputs, count) for name, count in classes.items()})
        for head in self.linear.values():
            assert isinstance(head, nn.Linear)
            nn.init.zeros_(head.bias)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Return the logits of each head."""
        if torch.is_autocast_enabled(features.device.type):
            with torch.autocast(features.device.type, enabled=False):
                return self._logits(features.float())
        return self._logits(features)

    def _logits(self, features: Tensor) -> dict[str, Tensor]:
        return {name: head(features) for name, head in self.linear.items()}
