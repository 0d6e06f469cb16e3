"""The learning rate: warm-up, cosine, and the published end points."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from training.recipe import OptimiserSettings
from training.schedule import learning_rate


def settings(warmup: float = 0.0) -> OptimiserSettings:
    return OptimiserSettings(lr=0.1, lr_end=1e-6, warmup=warmup, momentum=0.9, weight_decay=5e-4, batch=128, epochs=200)


def test_cosine_from_the_first_step_to_the_last() -> None:
    steps = 78_000  # 200 epochs of CIFAR-10 in batches of 128
    assert learning_rate(settings(), 0, steps) == 0.1
    assert learning_rate(settings(), steps // 2, steps) == pytest.approx((0.1 + 1e-6) / 2)
    assert learning_rate(settings(), steps // 3, steps) == pytest.approx(1e-6 + (0.1 - 1e-6) * 0.75)
    assert learning_rate(settings(), steps - 1, steps) == pytest.approx(1e-6, rel=1e-2)


def test_warm_up_rises_in_equal_steps_and_meets_the_cosine() -> None:
    rates = [learning_rate(settings(0.1), step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) / 11 for step in range(10)])
    assert rates[10] == 0.1
    assert max(rates) == 0.1
    assert rates[55] == pytest.approx(0.05, rel=1e-3)


@given(st.floats(0, 0.99), st.integers(1, 3000))
@example(0.9899999999999999, 1500)
def test_never_above_the_rate_nor_below_its_end_and_one_rise_only(warmup: float, steps: int) -> None:
    rates = [learning_rate(settings(warmup), step, steps) for step in range(steps)]
    assert all(1e-6 <= rate <= 0.1 + 1e-12 for rate in rates)
    top = rates.index(max(rates))
    assert all(earlier < later for earlier, later in pairwise(rates[: top + 1]))
    assert rates[top:][1:2] <= [rates[top]]  # equal where the warm-up ends within a rounding error of a step
    assert all(earlier > later for earlier, later in pairwise(rates[top + 1 :]))
    assert top == math.floor(warmup * steps)
