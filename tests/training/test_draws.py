"""The draws of a step: by seed and step alone, and each process has its own images' share of them."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.data.draws import Draws, Purpose, generator, network_seed

CPU = torch.device("cpu")
SEEDS, STEPS = st.integers(0, 2**20), st.integers(0, 2**30)


@given(SEEDS, STEPS, st.integers(1, 4), st.integers(1, 5))
def test_processes_hold_the_rows_of_their_images(seed: int, step: int, world: int, each: int) -> None:
    batch = world * each
    whole, parts = Draws(seed, step, batch, CPU), [Draws(seed, step, batch, CPU, rank, world) for rank in range(world)]
    for draw in ("integers", "distinct", "integers"):
        drawn = getattr(whole, draw)(3, 9)
        for rank, part in enumerate(parts):
            assert torch.equal(getattr(part, draw)(3, 9), drawn[rank::world])


@given(SEEDS, STEPS)
def test_draws_depend_on_seed_and_step_alone(seed: int, step: int) -> None:
    torch.manual_seed(seed ^ step)
    first = Draws(seed, step, 64, CPU).integers(1000)
    torch.rand(3)
    assert torch.equal(Draws(seed, step, 64, CPU).integers(1000), first)
    assert not torch.equal(Draws(seed, step + 1, 64, CPU).integers(1000), first)
    assert not torch.equal(Draws(seed + 1, step, 64, CPU).integers(1000), first)


def test_integers_are_uniform() -> None:
    drawn = Draws(0, 0, 9000, CPU).integers(9)
    assert drawn.dtype == torch.int64
    assert drawn.shape == (9000,)
    counts = torch.bincount(drawn, minlength=9)
    assert len(counts) == 9
    assert counts.min() > 850
    assert counts.max() < 1150


def test_distinct_numbers_are_distinct_and_uniform_in_every_place() -> None:
    drawn = Draws(0, 0, 9000, CPU).distinct(3, 9)
    assert drawn.shape == (9000, 3)
    assert all(len(set(row)) == 3 for row in drawn.tolist())
    for place in range(3):
        counts = torch.bincount(drawn[:, place], minlength=9)
        assert counts.min() > 850
        assert counts.max() < 1150


@pytest.mark.parametrize(("draw", "mean_square"), [("uniform", 1 / 3), ("normal", 1.0)])
def test_noise_is_centred_float32_and_split_over_processes(draw: str, mean_square: float) -> None:
    drawn = getattr(Draws(0, 0, 6, CPU), draw)(3, 32, 32)
    assert (drawn.dtype, drawn.shape) == (torch.float32, (6, 3, 32, 32))
    assert drawn.mean().abs() < 0.03
    assert drawn.square().mean().item() == pytest.approx(mean_square, abs=0.05)
    for rank in range(2):
        assert torch.equal(getattr(Draws(0, 0, 6, CPU, rank, 2), draw)(3, 32, 32), drawn[rank::2])


def test_seeds_and_steps_above_32_bits_count() -> None:
    first = Draws(1, 2, 64, CPU).integers(1000)
    assert not torch.equal(Draws(1, 2 + 2**32, 64, CPU).integers(1000), first)
    assert not torch.equal(Draws(1 + 2**32, 2, 64, CPU).integers(1000), first)


def test_no_purpose_shares_its_draws_with_another() -> None:
    drawn = {generator(purpose, 1, 2).bytes(16) for purpose in get_args(Purpose)}
    assert len(drawn) == len(get_args(Purpose))


def test_the_networks_draws_are_others_in_every_process_and_step() -> None:
    seeds = {network_seed(seed, step, rank) for seed in range(5) for step in range(50) for rank in range(4)}
    assert len({seed % 2**32 for seed in seeds}) == 5 * 50 * 4, "torch keeps the low 32 bits on a CPU"
    assert all(0 <= seed < 2**63 for seed in seeds)
