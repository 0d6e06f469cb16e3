"""Random draws of a run: the same for every split of the batch over devices, and for a resumed run.

Nothing is carried from step to step: every draw is by a generator of its own, seeded by what it is for, the run's seed
and where in the run it is. numpy's generators take all of that in; torch's on a CPU keeps 32 bits of a seed.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.to_device import to_device

Purpose = Literal["step", "order", "crop", "network", "labels", "trusted", "corruptions"]


def generator(purpose: Purpose, seed: int, *place: int) -> np.random.Generator:
    """Return the generator for a purpose at a place (step, epoch, ...) of the run of ``seed``; none below 0."""
    return np.random.default_rng([get_args(Purpose).index(purpose), seed, *place])


def network_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed, for torch's own generator, of the network's draws (dropout) in a step on a process."""
    return int(generator("network", seed, step, rank).integers(1 << 63))


class Draws:
    """Draws for the ``batch`` images of a step, of which this process holds rows rank, rank + world, ..."""

    def __init__(self, seed: int, step: int, batch: int, device: torch.device, rank: int = 0, world: int = 1) -> None:
        self._generator = generator("step", seed, step)
        self._batch = batch
        self._device = device
        self._rows = slice(rank, None, world)

    def integers(self, below: int, *shape: int) -> Tensor:
        """Return int64 [images, *shape], uniform over 0 .. below - 1."""
        return self._own_rows(self._generator.integers(below, size=(self._batch, *shape)))

    def distinct(self, count: int, below: int) -> Tensor:
        """Return int64 [images, count]: for each image ``count`` distinct numbers of 0 .. below - 1, in any order."""
        return self._own_rows(self._generator.random((self._batch, below)).argsort(axis=1)[:, :count])

    def uniform(self, *shape: int) -> Tensor:
        """Return float32 [images, *shape], uniform over -1 .. 1."""
        return self._own_rows(self._generator.random((self._batch, *shape), dtype=np.float32) * 2 - 1)

    def normal(self, *shape: int) -> Tensor:
        """Return float32 [images, *shape], each N(0, 1)."""
        return self._own_rows(self._generator.standard_normal((self._batch, *shape), dtype=np.float32))

    def _own_rows(self, drawn: NDArray[Any]) -> Tensor:
        return to_device(torch.from_numpy(drawn[self._rows].copy()), self._device)
