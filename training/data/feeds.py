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

from serving.images.image_file import resize_shorter_side
from training.data.draws import generator
from training.data.image_set import DataError, Images, ImageSet, InMemory, Labels, OnDisk, open_image
from training.data.to_device import to_device

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
        order = torch.from_numpy(generator("order", self._seed, epoch).permutation(self._count))
        for step in range(first_step, self.steps):
            yield order[step * self.batch : (step + 1) * self.batch][self._rank :: self._world]


def steps_per_epoch(count: int, batch: int, world: int = 1) -> int:
    """Return how many steps an epoch over ``count`` images has. Raises DataError as ``make_feed`` does."""
    return _Order(count, batch, 0, 0, world).steps


class MemoryFeed:
    """All images as one uint8 tensor on the device."""

    def __init__(
        self, images: ImageSet, pixels: InMemory, batch: int, seed: int, device: torch.device, rank: int, world: int
    ) -> None:
        self._order = _Order(len(images), batch, seed, rank, world)
        self.batch, self.steps_per_epoch = self._order.batch, self._order.steps
        self._device = device
        self._pixels = torch.from_numpy(pixels.array.transpose(0, 3, 1, 2).copy()).to(device)
        self._labels = torch.from_numpy(images.labels.copy()).to(device)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch from ``first_step`` on."""
        for indices in self._order.epoch(epoch, first_step):
            chosen = to_device(indices, self._device)
            yield self._pixels[chosen], self._labels[chosen]


class StreamingFeed:
    """Images decoded by worker processes: shorter side to the recipe's, then a random crop of the network's size."""

    def __init__(
        self, images: ImageSet, pixels: OnDisk, batch: int, seed: int, device: torch.device, rank: int, world: int
    ) -> None:
        self._order = _Order(len(images), batch, seed, rank, world)
        self.batch, self.steps_per_epoch = self._order.batch, self._order.steps
        self._device = device
        self._crops = _RandomCrops(pixels, images.labels, seed)
        self._workers = max(1, _cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch from ``first_step`` on. Raises DataError naming a file that went bad."""
        batches = [(epoch, indices.tolist()) for indices in self._order.epoch(epoch, first_step)]
        loader: DataLoader[Batch | str] = DataLoader(
            self._crops,
            batch_size=None,  # an item is a batch already
            sampler=batches,
            num_workers=max(1, min(self._workers, len(batches))),
            pin_memory=self._device.type == "cuda",
        )
        for item in loader:
            if isinstance(item, str):
                raise DataError(item)
            images, labels = item
            moved = images.to(self._device, non_blocking=True).permute(0, 3, 1, 2)
            yield moved, labels.to(self._device, non_blocking=True)


class _RandomCrops(Dataset[Batch | str]):
    """Batches by (epoch, indices): uint8 [n, size, size, 3] and labels, or what is wrong with a file."""

    def __init__(self, pixels: OnDisk, labels: Labels, seed: int) -> None:
        self._pixels, self._labels, self._seed = pixels, labels, seed

    def __getitem__(self, key: tuple[int, list[int]]) -> Batch | str:
        epoch, indices = key
        try:
            crops = np.stack([self._crop(epoch, index) for index in indices])
        except DataError as error:  # an exception would reach the user with the worker's stack
            return str(error)
        return torch.from_numpy(crops), torch.from_numpy(self._labels[indices])

    def _crop(self, epoch: int, index: int) -> Images:
        fitting = self._pixels.fitting
        image = resize_shorter_side(open_image(self._pixels.paths[index]), fitting.shorter_side)
        draws = generator("crop", self._seed, epoch, index)
        left = int(draws.integers(image.width - fitting.size + 1))
        top = int(draws.integers(image.height - fitting.size + 1))
        return np.array(image.crop((left, top, left + fitting.size, top + fitting.size)))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_feed(
    images: ImageSet, batch: int, seed: int, device: torch.device, rank: int = 0, world: int = 1
) -> MemoryFeed | StreamingFeed:
    """Return the feed that fits where the images are. ``batch`` counts images over all ``world`` processes.

    A data set smaller than a batch is one batch. Raises DataError if the batch does not divide over the processes.
    """
    if isinstance(images.pixels, InMemory):
        return MemoryFeed(images, images.pixels, batch, seed, device, rank, world)
    return StreamingFeed(images, images.pixels, batch, seed, device, rank, world)
