"""Seeded splits: disjoint, even over the classes, and always the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.splits import LARGEST_SHARE, halves, hold_out

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=200).map(lambda labels: np.array(labels, np.int64))
SHARES = st.floats(0.01, 0.9)


@given(LABELS, SHARES, st.integers(1, 300), st.integers(0, 1000))
def test_every_image_is_either_kept_or_held_out(
    labels: np.ndarray[tuple[int], np.dtype[np.int64]], share: float, minimum: int, seed: int
) -> None:
    kept, held = hold_out(labels, share, minimum, seed)
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert list(kept) == sorted(kept)
    assert list(held) == sorted(held)


@given(LABELS, SHARES, st.integers(1, 300), st.integers(0, 1000))
def test_each_class_gives_its_share_and_keeps_an_image(
    labels: np.ndarray[tuple[int], np.dtype[np.int64]], share: float, minimum: int, seed: int
) -> None:
    kept, held = hold_out(labels, share, minimum, seed)
    effective = max(share, min(minimum / len(labels), LARGEST_SHARE))
    for label in np.unique(labels):
        members = int(np.sum(labels == label))
        assert np.sum(labels[kept] == label) >= 1
        wanted = min(effective * members, members - 1)
        assert wanted - 1e-6 <= np.sum(labels[held] == label) <= wanted + 1


@pytest.mark.parametrize(
    ("count", "share", "minimum", "held_out"),
    [
        (50_000, 0.1, 500, 5_000),
        (5_000, 0.1, 500, 500),
        (3_000, 0.1, 500, 500),
        (900, 0.1, 500, 300),
        (300, 0.5, 8, 150),
    ],
)
def test_the_minimum_raises_the_share_up_to_a_third(count: int, share: float, minimum: int, held_out: int) -> None:
    labels = np.arange(count) % 10 if count % 10 == 0 else np.zeros(count, np.int64)
    assert len(hold_out(labels, share, minimum, 0)[1]) == held_out


def test_another_seed_holds_out_others() -> None:
    labels = np.repeat(np.arange(3), 100)
    first, again, other = (hold_out(labels, 0.1, 1, seed)[1] for seed in (0, 0, 1))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_nothing_to_split() -> None:
    kept, held = hold_out(np.empty(0, np.int64), 0.1, 500, 0)
    assert (len(kept), len(held)) == (0, 0)


@given(st.integers(0, 300), st.integers(0, 1000))
def test_halves(count: int, seed: int) -> None:
    first, second = halves(count, seed)
    assert sorted([*first, *second]) == list(range(count))
    assert len(first) - len(second) == count % 2
    assert list(first) == sorted(first)
    np.testing.assert_array_equal(halves(count, seed)[0], first)
