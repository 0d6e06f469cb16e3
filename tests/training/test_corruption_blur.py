from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training.patterns import image_set
from training.corruptions import blur
from training.corruptions.catalog import SEVERITIES
from training.corruptions.motion import motion_blur_along, motion_kernel
from training.corruptions.pixels import to_bytes, to_unit

IMAGES = image_set(per_class=2).pixels.read(0, 6)
NOTHING = np.random.default_rng(0)


def dot(row: int = 16, column: int = 16) -> NDArray[np.uint8]:
    """A black image with one white pixel."""
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[0, row, column] = 255
    return image


def test_gaussian_blur_spreads_a_dot_by_the_kernel() -> None:
    for severity, sigma in enumerate((0.4, 0.6, 0.7, 0.8, 1.0), start=1):
        weights = np.exp(-(np.arange(-4, 5) ** 2) / (2 * sigma**2)) * (np.abs(np.arange(-4, 5)) <= int(4 * sigma + 0.5))
        weights /= weights.sum()
        made = blur.gaussian_blur(dot(), severity, NOTHING)[0, :, :, 1]
        assert np.array_equal(made[12:21, 12:21], np.floor(255 * np.outer(weights, weights) + 1e-9))


def test_the_defocus_kernels_are_disks() -> None:
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]]) / 5
    assert blur.defocus_kernel(1.0, 0.2)[1:4, 1:4] == pytest.approx(cross, abs=1e-4)
    assert blur.defocus_kernel(1.5, 0.1)[1:4, 1:4] == pytest.approx(np.full((3, 3), 1 / 9), abs=1e-9)
    for settings in blur.DEFOCUS_RADIUS_ALIAS:
        assert blur.defocus_kernel(*settings).sum() == pytest.approx(1)
    made = blur.defocus_blur(dot(), 5, NOTHING)[0, :, :, 0]
    assert set(np.unique(made[15:18, 15:18])) == {28}
    assert np.count_nonzero(made) == 9


def test_glass_blur_is_the_makers_loop() -> None:
    """Pixel by pixel from the last to the third, each takes the value of the one it would swap with."""
    for severity, (sigma, rounds) in enumerate(blur.GLASS_SIGMA_ROUNDS, start=1):
        drawn = np.random.default_rng(severity)
        expected = to_bytes(blur.blur_each(to_unit(IMAGES), sigma))
        for _ in range(rounds):
            up, left = drawn.integers(0, 2, (2, len(IMAGES), 30, 30))
            for index, image in enumerate(expected):
                for row in range(31, 1, -1):
                    for column in range(31, 1, -1):
                        there = (row - up[index, row - 2, column - 2], column - left[index, row - 2, column - 2])
                        image[row, column] = image[there]
        expected = to_bytes(blur.blur_each(to_unit(expected), sigma))
        made = blur.glass_blur(IMAGES, severity, np.random.default_rng(severity))
        assert np.array_equal(made, expected)


def test_motion_blur_draws_a_dot_out_along_its_angle() -> None:
    kernel = motion_kernel(6, 2.0)
    assert (len(kernel), kernel.sum()) == (13, pytest.approx(1))
    assert kernel[3] / kernel[0] == pytest.approx(np.exp(-9 / 8))
    line = np.floor(255 * kernel[:10] + 1 / 514)
    for degrees, picked in (
        (0.0, (16, slice(16, 6, -1))),
        (90.0, (slice(16, 6, -1), 16)),
        (-90.0, (slice(16, 26), 16)),
    ):
        made = motion_blur_along(dot(), 6, 2.0, np.array([degrees]))[0, :, :, 2]
        assert np.array_equal(made[picked], line), degrees
        assert np.count_nonzero(made) == np.count_nonzero(line)
    diagonal = motion_blur_along(dot(), 6, 2.0, np.array([45.0]))[0, :, :, 0]
    assert np.array_equal(np.nonzero(diagonal)[0], np.nonzero(diagonal)[1])


def test_motion_blur_repeats_the_edge() -> None:
    flat = np.full((3, 32, 32, 3), 90, np.uint8)
    assert np.array_equal(motion_blur_along(flat, 9, 2.5, np.array([-45.0, 0.0, 45.0])), flat)


@pytest.mark.parametrize(("severity", "count", "last"), [(1, 7, 1.06), (2, 12, 1.11), (3, 16, 1.15), (5, 26, 1.25)])
def test_zoom_factors_are_numpys_range(severity: int, count: int, last: float) -> None:
    factors = np.arange(1, *blur.ZOOM_STOP_STEP[severity - 1])
    assert (len(factors), factors[-1]) == (count, pytest.approx(last))


def test_zoom_stretches_the_middle() -> None:
    assert np.array_equal(blur.zoom_matrix(1.0, 32), np.eye(32))
    assert np.array_equal(blur.zoom_matrix(1.01, 32), np.eye(32))  # all 32 pixels, on 32
    twice = blur.zoom_matrix(2.0, 32) @ np.arange(32)
    assert (twice[0], twice[-1]) == pytest.approx((8, 23))  # the middle 16, stretched from end to end
    assert np.diff(twice) == pytest.approx(np.full(31, 15 / 31))
    for factor in (1.06, 1.25, 1.75, 2.25):
        assert blur.zoom_matrix(factor, 32).sum(axis=1) == pytest.approx(np.ones(32))


def test_blurs_keep_a_flat_image() -> None:
    flat = np.full((2, 32, 32, 3), 200, np.uint8)
    for function in (blur.gaussian_blur, blur.glass_blur, blur.defocus_blur, blur.motion_blur, blur.zoom_blur):
        for severity in SEVERITIES:
            assert np.abs(function(flat, severity, np.random.default_rng(0)).astype(int) - 200).max() <= 2
