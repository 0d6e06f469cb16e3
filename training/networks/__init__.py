"""Networks: a backbone and named softmax heads on its penultimate vector."""

from __future__ import annotations

from torch import nn

from training.networks.resnet import ResNet18
from training.networks.wide_resnet import WideResNet
from training.recipe import NetworkSettings

__all__ = ["ResNet18", "WideResNet", "build_network", "network_name"]


def build_network(settings: NetworkSettings, heads: dict[str, int]) -> nn.Module:
    """Return a freshly initialised network with ``heads`` (name -> classes), drawn from torch's global generator."""
    if settings.kind == "wide_resnet":
        return WideResNet(settings.depth, settings.width, heads, settings.dropout)
    return ResNet18(heads)


def network_name(settings: NetworkSettings) -> str:
    """Return the network's usual short name, e.g. 'WRN 40-2' or 'ResNet-18'."""
    return f"WRN {settings.depth}-{settings.width}" if settings.kind == "wide_resnet" else "ResNet-18"
