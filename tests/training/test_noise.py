from __future__ import annotations

import numpy as np
import pytest

from training.data.noise import NOISES, blobs, gaussian, rademacher


@pytest.mark.parametrize("name", list(NOISES))
def test_noise_is_seeded_uint8(name: str) -> None:
    images = NOISES[name](4, 32, 7)
    assert images.dtype == np.uint8
    assert images.shape == (4, 32, 32, 3)
    np.testing.assert_array_equal(images, NOISES[name](4, 32, 7))
    assert not np.array_equal(images, NOISES[name](4, 32, 8))
    assert not np.array_equal(images[0], images[1])


def test_gaussian_has_its_moments_and_is_clipped() -> None:
    values = gaussian(50, 32, 0) / 255
    # N(0.5, 0.5^2) beyond [0, 1] lies P(|z| > 1) = 0.3173 of the mass, half of it at each end.
    assert values.mean() == pytest.approx(0.5, abs=0.01)
    assert np.mean(values == 0) == pytest.approx(0.1587, abs=0.01)
    assert np.mean(values == 1) == pytest.approx(0.1587, abs=0.01)


def test_rademacher_is_black_or_white_in_each_channel() -> None:
    images = rademacher(50, 32, 0)
    assert set(np.unique(images)) == {0, 255}
    assert np.mean(images == 255) == pytest.approx(0.5, abs=0.01)


def test_blobs_are_bright_shapes_on_black() -> None:
    images = blobs(20, 32, 0)
    lit = images[images > 0]
    assert lit.min() >= round(0.75 * 255)
    assert 0.05 < np.mean(images > 0) < 0.6
    on = images > 0
    same_as_right_neighbour = np.mean(on[:, :, 1:] == on[:, :, :-1])
    assert same_as_right_neighbour > 0.8  # independent pixels of this density would agree far less


def test_blobs_grow_with_the_image() -> None:
    def edges(size: int) -> float:
        on = blobs(4, size, 0) > 0
        return float(np.mean(on[:, :, 1:] != on[:, :, :-1]))

    assert edges(64) < 0.75 * edges(32)
