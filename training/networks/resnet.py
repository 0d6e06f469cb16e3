"""ResNet-18 (He et al. 2016; torchvision's) with any set of heads, for images of 224 pixels."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import resnet18

from training.networks.heads import Heads


class ResNet18(nn.Module):
    """ResNet-18 without pre-trained weights.

    Input float [N, 3, H, W] in [0, 1], scaled to [-1, 1] inside; output one logit tensor a head.
    """

    def __init__(self, heads: dict[str, int]) -> None:
        super().__init__()
        self.backbone = resnet18(weights=None)
        inputs = self.backbone.fc.in_features
        self.backbone.fc = nn.Identity()
        self.heads = Heads(inputs, heads)

    def features(self, images: Tensor) -> Tensor:
        """Return the penultimate vector [N, 512]."""
        vectors: Tensor = self.backbone(images * 2 - 1)
        return vectors

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the logits of each head, [N, classes of the head]."""
        logits: dict[str, Tensor] = self.heads(self.features(images))
        return logits
