"""Wide ResNet (Zagoruyko & Komodakis 2016) with any set of heads on its penultimate vector."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.networks.heads import Heads


class _Block(nn.Module):
    """Pre-activation residual block; its shortcut is a 1x1 convolution where width or stride changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.dropout = dropout
        changes = inputs != outputs or stride != 1
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        activated = functional.relu(self.bn1(x), inplace=True)
        branch = functional.relu(self.bn2(self.conv1(activated)), inplace=True)
        if self.dropout > 0:
            branch = functional.dropout(branch, self.dropout, self.training)
        residual: Tensor = self.conv2(branch)
        return residual + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet(nn.Module):
    """Wide ResNet ``depth``-``width`` for images of 32 pixels or so.

    Input float [N, 3, H, W] in [0, 1], scaled to [-1, 1] inside; output one logit tensor a head. ``depth`` is 6n + 4.
    Initialisation: convolutions N(0, sqrt(2 / (k * k * out))), batch norm 1 and 0 (reference-facts: common).
    """

    def __init__(self, depth: int, width: int, heads: dict[str, int], dropout: float = 0.0) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6 != 0:
            raise ValueError(f"depth {depth} is not 6n + 4 with n >= 1 (10, 16, 22, 28, 34, 40, ...)")
        if width < 1:
            raise ValueError(f"width {width} is less than 1")
        blocks = (depth - 4) // 6
        channels = (16 * width, 32 * width, 64 * width)
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        stages: list[nn.Module] = []
        inputs = 16
        for stage, outputs in enumerate(channels):
            for block in range(blocks):
                stages.append(_Block(inputs, outputs, 2 if stage > 0 and block == 0 else 1, dropout))
                inputs = outputs
        self.blocks = nn.Sequential(*stages)
        self.bn = nn.BatchNorm2d(inputs)
        self.heads = Heads(inputs, heads)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))

    def features(self, images: Tensor) -> Tensor:
        """Return the penultimate vector [N, 64 * width]."""
        x = self.conv1(images * 2 - 1)
        x = functional.relu(self.bn(self.blocks(x)), inplace=True)
        return torch.mean(x, dim=(2, 3))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the logits of each head, [N, classes of the head]."""
        logits: dict[str, Tensor] = self.heads(self.features(images))
        return logits
