"""From the CPU's memory to the device's, without halting either."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return a tensor that the CPU has just made as one of ``device``, with the same shape and type.

    A GPU is given it by way of pinned memory: a plain copy first waits for all that the GPU has still to do, and the
    GPU then waits for its next work.
    """
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
