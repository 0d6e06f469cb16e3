"""The network as an attack sees it: without the wrappers that prepare a training step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from training.objectives.objective import Logits, Network
from training.precision import Precision, autocast


class BareNetwork:
    """The module under Fabric's and DistributedDataParallel's wrappers, computing at the same ``precision``.

    An attack asks for the gradient of its images alone, so there is nothing to reduce over processes, no buffer to
    synchronise, and no backward pass that Fabric must know of. Logits are float32. A plain function is called as it is.
    """

    def __init__(self, network: Network, precision: Precision) -> None:
        wrapped = getattr(network, "module", network)
        self._network: Network = wrapped
        self._module = wrapped if isinstance(wrapped, nn.Module) else None
        self._precision = precision

    def __call__(self, images: Tensor) -> Logits:
        """Return the logits of float images in [0, 1]."""
        with autocast(self._precision, images.device):
            logits = self._network(images)
        return {head: values if values.dtype == torch.float64 else values.float() for head, values in logits.items()}

    @contextmanager
    def in_mode(self, mode: str) -> Iterator[None]:
        """Put the module in 'training' or 'evaluation' mode, and back after."""
        if self._module is None:
            yield
            return
        before = self._module.training
        self._module.train(mode == "training")
        try:
            yield
        finally:
            self._module.train(before)
