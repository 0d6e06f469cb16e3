"""Batch norm over the whole batch when several processes share it, so that their number changes no figure."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable


def share_batch_norm(network: nn.Module, device: torch.device) -> nn.Module:
    """Return ``network`` with the statistics of its batch norms taken over the batches of all processes.

    Parameters, buffers and their names stay. On CUDA torch's own SyncBatchNorm; it has no CPU version, hence ours.
    Each process must have equally many images.
    """
    if device.type == "cuda":
        synchronised: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return synchronised
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d):
            shared = _SharedBatchNorm2d(child.num_features, child.eps, child.momentum)
            shared.load_state_dict(child.state_dict())
            setattr(network, name, shared)
        else:
            share_batch_norm(child, device)
    return network


class _SharedBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d whose training statistics are those of all processes' batches together."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        processes = distributed.get_world_size()
        mean = _sum_over_processes(x.mean((0, 2, 3))) / processes
        centred = x - mean[:, None, None]
        variance = _sum_over_processes(centred.square().mean((0, 2, 3))) / processes
        count = x.numel() // x.shape[1] * processes
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale[:, None, None] + self.bias[:, None, None]


class _Sum(torch.autograd.Function):
    """The sum over processes; the gradient of a sum is the sum of the gradients."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


def _sum_over_processes(value: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(value)
    return total
