"""Learning rate over a run: an optional linear warm-up, then a cosine, changed at every step."""

from __future__ import annotations

import math

from training.recipe import OptimiserSettings


def learning_rate(settings: OptimiserSettings, step: int, steps: int) -> float:
    """Return the rate of step 0 <= ``step`` < ``steps``: cosine from ``lr`` towards ``lr_end`` (reference-facts)."""
    warmup = settings.warmup * steps
    if step < warmup:
        return settings.lr * (step + 1) / (math.floor(warmup) + 1)
    progress = (step - warmup) / (steps - warmup)
    return settings.lr_end + (settings.lr - settings.lr_end) * 0.5 * (1 + math.cos(math.pi * progress))
