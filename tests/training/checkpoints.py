"""What tests compare of two runs: their weights, bit for bit, and their logs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from training.run_folder import RunFolder


def same_weights(one: RunFolder, other: RunFolder) -> bool:
    """Return whether the checkpoints hold the very same weights, statistics and momenta at the same step."""
    first, second = one.load_checkpoint(), other.load_checkpoint()
    return first["step"] == second["step"] and all(
        _same(first[part], second[part]) for part in ("network", "optimiser")
    )


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def log_lines(run: RunFolder) -> list[dict[str, Any]]:
    """Return the lines of the training log without the speed, which no two runs have in common."""
    lines = [json.loads(line) for line in run.metrics_path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        assert line.pop("views_per_second") > 0
    return lines


@contextmanager
def disk_full_at(size: int) -> Iterator[None]:
    """Let no file grow beyond ``size`` bytes: writing more fails as it does on a full disk, with OSError."""
    import resource  # Unix alone has it
    import signal

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
