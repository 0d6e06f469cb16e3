"""Linear softmax heads, one a question, all on the same penultimate vector."""

from __future__ import annotations

from torch import Tensor, nn


class Heads(nn.Module):
    """Named linear heads: features [N, inputs] -> {name: logits [N, classes]}. Biases start at zero."""

    def __init__(self, inputs: int, classes: dict[str, int]) -> None:
        super().__init__()
        self.linear = nn.ModuleDict({name: nn.Linear(inputs, count) for name, count in classes.items()})
        for head in self.linear.values():
            assert isinstance(head, nn.Linear)
            nn.init.zeros_(head.bias)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Return the logits of each head."""
        return {name: head(features) for name, head in self.linear.items()}
