"""Random draws of one training step: the same for every split of the batch over devices, and for a resumed run.

Nothing is carried from step to step: the generator is seeded by (seed, step), draws for the whole batch, and each
process keeps the rows of its own images.
"""

from __future__ import annotations

import torch
from torch import Tensor

_STEPS = 1 << 40  # steps a seed has before its generators meet those of the next seed


def step_seed(seed: int, step: int) -> int:
    """Return the generator seed of a step: distinct for distinct (seed, step)."""
    return (seed * _STEPS + step) % (1 << 63)


class Draws:
    """Draws for the ``batch`` images of a step, of which this process holds rows rank, rank + world, ..."""

    def __init__(
        self, seed: int, step: int, batch: int, device: torch.device, rank: int = 0, world: int = 1
    ) -> None:
        self._generator = torch.Generator().manual_seed(step_seed(seed, step))
        self._batch = batch
        self._device = device
        self._rows = slice(rank, None, world)

    def integers(self, below: int, *shape: int) -> Tensor:
        """Return int64 [images, *shape], uniform over 0 .. below - 1."""
        drawn = torch.randint(below, (self._batch, *shape), generator=self._generator)
        return drawn[self._rows].to(self._device)

    def distinct(self, count: int, below: int) -> Tensor:
        """Return int64 [images, count]: for each image ``count`` distinct numbers of 0 .. below - 1, in random order."""
        order = torch.rand((self._batch, below), generator=self._generator).argsort(dim=1)
        return order[self._rows, :count].to(self._device)
