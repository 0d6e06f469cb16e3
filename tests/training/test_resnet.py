"""ResNet-18 with any heads."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from training.networks import ResNet18, build_network, network_name
from training.recipe import ResNet18Settings


def test_the_backbone_is_torchvisions_and_the_heads_are_ours() -> None:
    network = ResNet18({"rotation": 4, "vertical": 3, "horizontal": 3}).eval()
    backbone = sum(p.numel() for p in resnet18(weights=None).parameters()) - (512 * 1000 + 1000)
    assert sum(p.numel() for p in network.parameters()) == backbone + 513 * (4 + 3 + 3)
    logits = network(torch.rand(1, 3, 224, 224))
    assert {name: tuple(value.shape) for name, value in logits.items()} == {
        "rotation": (1, 4),
        "vertical": (1, 3),
        "horizontal": (1, 3),
    }


def test_the_penultimate_vector_and_the_scaling() -> None:
    network = ResNet18({"label": 2}).eval()
    seen: list[torch.Tensor] = []
    network.backbone.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    features = network.features(torch.tensor([0.0, 0.5, 1.0]).reshape(1, 3, 1, 1).expand(1, 3, 64, 64))
    assert features.shape == (1, 512)
    assert seen[0][0, :, 0, 0].tolist() == [-1.0, 0.0, 1.0]


def test_building_from_a_recipe() -> None:
    network = build_network(ResNet18Settings(kind="resnet18"), {"label": 5})
    assert isinstance(network, ResNet18)
    assert isinstance(network.backbone.fc, nn.Identity)
    assert network_name(ResNet18Settings(kind="resnet18")) == "ResNet-18"


def test_heads_start_without_bias() -> None:
    network = ResNet18({"label": 5})
    assert network.heads.linear["label"].bias.tolist() == pytest.approx([0] * 5, abs=0)
