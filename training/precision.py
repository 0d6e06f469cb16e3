"""The number format that a run computes in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from lightning_fabric.plugins import MixedPrecision

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
NamedPrecision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]


def precision_on(named: NamedPrecision, cuda: bool) -> Precision:
    """Return what a recipe's trainer.precision means on a GPU, or on a CPU: 'auto' is bf16-mixed and 32-true there."""
    if named == "auto":
        return "bf16-mixed" if cuda else "32-true"
    return named


def resolve_precision(named: NamedPrecision) -> Precision:
    """Return what a recipe's trainer.precision means here."""
    return precision_on(named, torch.cuda.is_available())


def was_on_cuda(record: Mapping[str, Any]) -> bool:
    """Return whether a run was trained on a GPU, by its training record; of a record before any step: whether here."""
    device = record.get("device")
    return torch.cuda.is_available() if device is None else not str(device).startswith("CPU")


def trained_precision(named: NamedPrecision, record: Mapping[str, Any]) -> Precision:
    """Return the precision a run was trained in: what its record says or, if it says nothing, what ``named`` meant."""
    recorded: Precision | None = record.get("precision")
    return recorded or precision_on(named, was_on_cuda(record))


class FloatInputs(MixedPrecision):
    """Fabric's mixed precision, but for images: they stay float32, where Fabric rounds them before the network.

    In bfloat16 a pixel moves by up to 0.5/255, a quarter of a step of an attack; and neither the attacks, which are on
    the bare network, nor evaluation would see the images that were trained on.
    """

    def convert_input(self, data: Any) -> Any:
        """Return the data as they are."""
        return data


def fabric_options(precision: Precision, accelerator: str) -> dict[str, Any]:
    """Return the arguments of Fabric on an ``accelerator``, cuda or cpu, for a precision."""
    if precision == "32-true":
        return {"precision": precision}
    return {"plugins": [FloatInputs(precision, accelerator)]}


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Return the context in which a bare module computes as Fabric lets it compute at ``precision``."""
    dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "32-true")
