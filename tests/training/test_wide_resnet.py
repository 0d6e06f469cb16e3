"""The Wide ResNet against the published parameter counts and initialisation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from training.networks import WideResNet, build_network, network_name
from training.recipe import WideResNetSettings

HEADS = {"label": 10}


@pytest.mark.parametrize(("depth", "width", "millions"), [(40, 2, 2.24), (16, 4, 2.75)])
def test_published_parameter_counts(depth: int, width: int, millions: float) -> None:
    network = WideResNet(depth, width, HEADS)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == millions


def test_depth_counts_all_convolutions_shortcuts_included() -> None:
    network = WideResNet(40, 2, HEADS)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    shortcuts = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert len(convolutions) == 37
    assert len(shortcuts) == 3  # one a stage


def test_initialisation() -> None:
    torch.manual_seed(0)
    network = WideResNet(40, 2, HEADS)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            assert module.bias is None
            expected = math.sqrt(2 / (module.kernel_size[0] * module.kernel_size[1] * module.out_channels))
            count = module.weight.numel()
            tolerance = 5 * expected / math.sqrt(2 * count)
            assert module.weight.std().item() == pytest.approx(expected, abs=tolerance)
            assert abs(module.weight.mean().item()) < 5 * expected / math.sqrt(count)
        if isinstance(module, nn.BatchNorm2d):
            assert torch.all(module.weight == 1)
            assert torch.all(module.bias == 0)
        if isinstance(module, nn.Linear):
            assert torch.all(module.bias == 0)


@pytest.mark.parametrize(("depth", "width", "length"), [(40, 2, 128), (16, 4, 256), (10, 1, 64)])
def test_the_penultimate_vector_is_64_times_the_width(depth: int, width: int, length: int) -> None:
    assert WideResNet(depth, width, HEADS).eval().features(torch.rand(2, 3, 32, 32)).shape == (2, length)


def test_every_head_reads_the_same_penultimate_vector() -> None:
    network = WideResNet(10, 1, {"rotation": 4, "vertical": 3, "horizontal": 3}).eval()
    images = torch.rand(2, 3, 32, 32)
    logits = network(images)
    assert {name: tuple(value.shape) for name, value in logits.items()} == {
        "rotation": (2, 4),
        "vertical": (2, 3),
        "horizontal": (2, 3),
    }
    features = network.features(images)
    for name, value in logits.items():
        linear = network.heads.linear[name]
        torch.testing.assert_close(value, features @ linear.weight.T + linear.bias)


def test_pixels_are_scaled_to_minus_one_to_one_inside() -> None:
    network = WideResNet(10, 1, HEADS).eval()
    seen: list[torch.Tensor] = []
    network.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(torch.tensor([0.0, 0.5, 1.0]).reshape(1, 3, 1, 1).expand(1, 3, 32, 32))
    assert seen[0][0, :, 0, 0].tolist() == [-1.0, 0.0, 1.0]


def test_dropout_acts_in_training_alone() -> None:
    network = WideResNet(10, 1, HEADS, dropout=0.5)
    images = torch.rand(4, 3, 32, 32)
    assert not torch.equal(network(images)["label"], network(images)["label"])
    network.eval()
    assert torch.equal(network(images)["label"], network(images)["label"])


def test_the_first_block_of_a_stage_activates_before_its_shortcut() -> None:
    block = WideResNet(10, 2, HEADS).eval().blocks[0]
    x = torch.randn(1, 16, 8, 8)
    activated = torch.relu(block.bn1(x))
    branch = block.conv2(torch.relu(block.bn2(block.conv1(activated))))
    torch.testing.assert_close(block(x.clone()), block.shortcut(activated) + branch)


@pytest.mark.parametrize(("depth", "width"), [(4, 1), (12, 1), (16, 0)])
def test_a_size_that_cannot_be_is_refused(depth: int, width: int) -> None:
    with pytest.raises(ValueError, match=r"depth|width"):
        WideResNet(depth, width, HEADS)


def test_building_from_a_recipe_draws_from_torchs_generator() -> None:
    settings = WideResNetSettings(kind="wide_resnet", depth=10, width=1, dropout=0.0)
    torch.manual_seed(3)
    one = build_network(settings, HEADS).state_dict()
    torch.manual_seed(3)
    two = build_network(settings, HEADS).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert network_name(settings) == "WRN 10-1"
