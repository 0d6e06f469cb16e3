"""The number format that a run computes in."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def resolve_precision(named: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]) -> Precision:
    """Return the precision that a recipe's trainer.precision means here: 'auto' is bf16-mixed on CUDA, else 32-true."""
    if named == "auto":
        return "bf16-mixed" if torch.cuda.is_available() else "32-true"
    return named


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Return the context in which a bare module computes as Fabric lets it compute at ``precision``."""
    dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "32-true")
