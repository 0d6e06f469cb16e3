"""Augmentation of a batch on its device: random mirroring and cropping, as one gather of uint8 pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from training.data.draws import Draws
from training.recipe import AugmentationSettings


def augment(images: Tensor, settings: AugmentationSettings, draws: Draws) -> Tensor:
    """Mirror half of the images and crop each back to size from ``crop_padding`` pixels of zero padding.

    ``images`` uint8 [N, C, H, W]; the result has the same shape and type. Each image has its own draw.
    """
    count, channels, height, width = images.shape
    padding = settings.crop_padding
    if not settings.flip and padding == 0:
        return images
    rows = torch.arange(height, device=images.device).expand(count, height)
    columns = torch.arange(width, device=images.device).expand(count, width)
    if padding:
        shifts = draws.integers(2 * padding + 1, 2) - padding
        rows = rows + shifts[:, :1]
        columns = columns + shifts[:, 1:]
    if settings.flip:
        mirrored = draws.integers(2).bool()[:, None]
        columns = torch.where(mirrored, width - 1 - columns, columns)
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    sources = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    flat = sources.reshape(count, 1, height * width).expand(-1, channels, -1)
    picked = torch.gather(images.reshape(count, channels, height * width), 2, flat)
    return (picked * inside.reshape(count, 1, height * width)).reshape(images.shape)


def to_network(images: Tensor, channels_last: bool = True) -> Tensor:
    """Turn uint8 [N, 3, H, W] into the network's float32 input in [0, 1]."""
    return images.to(torch.float32, memory_format=_layout(channels_last)).div_(255)


def in_layout(images: Tensor, channels_last: bool = True) -> Tensor:
    """Return float images [N, 3, H, W] in the memory layout that the network computes in."""
    return images.contiguous(memory_format=_layout(channels_last))


def _layout(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format
