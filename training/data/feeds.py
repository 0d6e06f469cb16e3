"""Feeds: batches of training images on the device, from memory or streamed from disk.

The order of an epoch depends on (seed, epoch) alone, so that a resumed run goes on with the very next batch. An epoch
has only whole batches; which images miss it changes from epoch to epoch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from serving.images import decode_image, resize_shorter_side
from training.data.draws import step_seed
from training.data.image_set import DataError, ImageSet, InMemory, OnDisk

Batch = tuple[Tensor, Tensor]


class Feed(Protocol):
    """Batches of this process's images: uint8 [n, 3, size, size] and labels int64 [n], on the device."""

    batch: int
    steps_per_epoch: int

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch from ``first_step`` on."""


class _Order:
    """The order of images: which indices make up each batch of each epoch, and which of them are this process's."""

    def __init__(self, count: int, batch: int, seed: int, rank: int, world: int) -> None:
        self.batch = min(batch, count // world * world)
        if self.batch < 1:
            raise DataError(f"{count} training images are too few for {world} processes")
        if self.batch % world:
            raise DataError(f"a batch of {self.batch} images does not divide over {world} processes")
        self.steps = count // self.batch
        self._count, self._seed, self._rank, self._world = count, seed, rank, world

    def epoch(self, epoch: int, first_step: int) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(step_seed(~self._seed, epoch))
        order = torch.randperm(self._count, generator=generator)
        for step in range(first_step, self.steps):
            yield order[step * self.batch : (step + 1) * self.batch][self._rank :: self._world]


class MemoryFeed:
    """All images as one uint8 tensor on the device."""

    def __init__(
        self, images: ImageSet, pixels: InMemory, batch: int, seed: int, device: torch.device, rank: int, world: int
    ) -> None:
        self._order = _Order(len(images), batch, seed, rank, world)
        self.batch, self.steps_per_epoch = self._order.batch, self._order.steps
        self._device = device
        self._pixels = torch.from_numpy(np.ascontiguousarray(pixels.array.transpose(0, 3, 1, 2))).to(device)
        self._labels = torch.from_numpy(images.labels).to(device)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch from ``first_step`` on."""
        for indices in self._order.epoch(epoch, first_step):
            chosen = indices.to(self._device)
            yield self._pixels[chosen], self._labels[chosen]


class StreamingFeed:
    """Images decoded by worker processes: shorter side to the recipe's, then a random crop of the network's size."""

    def __init__(
        self, images: ImageSet, pixels: OnDisk, batch: int, seed: int, device: torch.device, rank: int, world: int
    ) -> None:
        self._order = _Order(len(images), batch, seed, rank, world)
        self.batch, self.steps_per_epoch = self._order.batch, self._order.steps
        self._device = device
        self._files = _RandomCrops(pixels, images.labels, seed)
        self._workers = max(1, (os.cpu_count() or 1) // world)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch from ``first_step`` on."""
        batches = [[(epoch, int(i)) for i in indices] for indices in self._order.epoch(epoch, first_step)]
        loader: DataLoader[tuple[Tensor, int]] = DataLoader(
            self._files,
            batch_sampler=batches,  # type: ignore[arg-type]  # our dataset is indexed by (epoch, image)
            num_workers=min(self._workers, max(1, len(batches))),
            pin_memory=self._device.type == "cuda",
        )
        for images, labels in loader:
            moved = images.to(self._device, non_blocking=True).permute(0, 3, 1, 2)
            yield moved, labels.to(self._device, non_blocking=True)


class _RandomCrops(Dataset[tuple[Tensor, int]]):
    def __init__(self, pixels: OnDisk, labels: np.ndarray[tuple[int], np.dtype[np.int64]], seed: int) -> None:
        self._pixels, self._labels, self._seed = pixels, labels, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = key
        fitting = self._pixels.fitting
        image = resize_shorter_side(decode_image(self._pixels.paths[index].read_bytes()), fitting.shorter_side)
        generator = np.random.default_rng([self._seed, epoch, index])
        left = int(generator.integers(image.width - fitting.size + 1))
        top = int(generator.integers(image.height - fitting.size + 1))
        crop = image.crop((left, top, left + fitting.size, top + fitting.size))
        return torch.from_numpy(np.array(crop)), int(self._labels[index])


def make_feed(
    images: ImageSet, batch: int, seed: int, device: torch.device, rank: int = 0, world: int = 1
) -> MemoryFeed | StreamingFeed:
    """Return the feed that fits where the images are. ``batch`` counts images over all ``world`` processes.

    A data set smaller than a batch is one batch. Raises DataError if the batch does not divide over the processes.
    """
    if isinstance(images.pixels, InMemory):
        return MemoryFeed(images, images.pixels, batch, seed, device, rank, world)
    return StreamingFeed(images, images.pixels, batch, seed, device, rank, world)
