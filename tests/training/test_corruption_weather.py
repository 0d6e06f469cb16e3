from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.patterns import image_set
from training.corruptions import spatter, weather
from training.corruptions.catalog import SEVERITIES
from training.corruptions.edges import canny_edges, chamfer_distance
from training.corruptions.frost_photographs import FILES, frost_folder, frost_photographs
from training.data.image_set import DataError

IMAGES = image_set(per_class=4).pixels.read(0, 12)


def test_plasma_fills_the_range_of_each_map_and_is_rougher_for_a_small_decay() -> None:
    roughness = []
    for decay in (3.0, 2.0, 1.5):
        maps = weather.plasma(20, 32, decay, np.random.default_rng(0))
        assert maps.shape == (20, 32, 32)
        assert np.array_equal(maps.min(axis=(1, 2)), np.zeros(20))
        assert np.array_equal(maps.max(axis=(1, 2)), np.ones(20))
        roughness.append(np.abs(np.diff(maps, axis=1)).mean())
    assert roughness == sorted(roughness)


def test_plasma_of_four_points_by_hand() -> None:
    """The centre is the corner (all four corners are one, 0) + 100·u1, u in ±100; the sides, of it and the corner."""
    drawn = np.random.default_rng(8)
    first, second, third = (100 * drawn.uniform(-100, 100) for _ in range(3))
    square = np.array([[0, first / 2 + second], [first / 2 + third, first]])
    expected = (square - square.min()) / np.ptp(square)
    assert weather.plasma(1, 2, 3.0, np.random.default_rng(8))[0] == pytest.approx(expected)


def test_fog_never_outshines_the_brightest_value() -> None:
    for severity in SEVERITIES:
        made = weather.fog(IMAGES, severity, np.random.default_rng(1))
        assert (made.max(axis=(1, 2, 3)) <= IMAGES.max(axis=(1, 2, 3))).all()
    black = np.zeros((2, 32, 32, 3), np.uint8)
    assert not weather.fog(black, 5, np.random.default_rng(1)).any()


def test_snow_only_adds_light_and_turns_by_half() -> None:
    for severity in SEVERITIES:
        made = weather.snow(IMAGES, severity, np.random.default_rng(2)).astype(int)
        assert (made >= IMAGES.astype(int) - 1).all()
    on_black = weather.snow(np.zeros((4, 32, 32, 3), np.uint8), 3, np.random.default_rng(2))
    assert np.array_equal(on_black, on_black[:, ::-1, ::-1])
    assert on_black.min() == int(0.1 * 0.5 * 255)  # the whitening of black: a tenth of one half
    assert on_black.max() > 100


def test_frost_adds_a_cut_of_a_photograph(photographs_installed: Path) -> None:
    photographs = frost_photographs()
    whole = np.asarray(Image.open(photographs_installed / FILES[0]))
    assert len(photographs) == 5
    assert np.array_equal(photographs[0][0, 0], whole[2, 2])
    assert photographs[0].shape == (43, 48, 3)
    black = np.zeros((30, 32, 32, 3), np.uint8)
    made = weather.frost(black, 5, np.random.default_rng(0))
    windows = [np.lib.stride_tricks.sliding_window_view(picture, (32, 32), axis=(0, 1)) for picture in photographs]
    used = set()
    for image in made:
        found = [
            index
            for index, window in enumerate(windows)
            if (np.abs(np.floor(0.45 * window) - image.transpose(2, 0, 1)).max(axis=(2, 3, 4)) == 0).any()
        ]
        assert len(found) == 1
        used.update(found)
    assert used == set(range(5))


@pytest.mark.usefixtures("no_photographs")
def test_without_photographs_frost_says_where_they_are_to_be_had() -> None:
    assert frost_folder() is None
    with pytest.raises(DataError, match="pip install --no-deps imagecorruptions"):
        weather.frost(IMAGES, 1, np.random.default_rng(0))


def test_water_adds_light_and_mud_goes_towards_brown() -> None:
    clean = IMAGES.astype(int)
    for severity in (1, 2, 3):
        made = spatter.spatter(IMAGES, severity, np.random.default_rng(3)).astype(int)
        assert (made >= clean - 1).all()
        assert (made > clean + 10).any(axis=(1, 2, 3)).all()
    for severity in (4, 5):
        made = spatter.spatter(IMAGES, severity, np.random.default_rng(3)).astype(int)
        muddy = (np.abs(made - clean) > 2).any(axis=-1)
        assert 0.005 < muddy.mean() < 0.5
        brown = np.array([63, 42, 20])
        low, high = np.minimum(clean, brown) - 1, np.maximum(clean, brown)
        assert ((made >= low) & (made <= high)).all()


def test_no_liquid_leaves_no_water() -> None:
    assert not spatter.water_thickness(np.zeros((2, 32, 32), np.uint8)).any()


def test_an_edge_is_a_line_of_one_pixel() -> None:
    image = np.zeros((1, 8, 8), np.uint8)
    image[:, :, 4:] = 200
    rows, columns = np.nonzero(canny_edges(image, 50, 150)[0])
    assert set(columns) == {3}  # of two equal gradients side by side, the first
    assert set(rows) == set(range(8))
    assert not canny_edges(np.full((1, 8, 8), 200, np.uint8), 50, 150).any()


def test_a_weak_edge_is_kept_only_where_it_leads_to_a_strong_one() -> None:
    step = np.zeros((2, 12, 8), np.uint8)
    step[:, :, 4:] = 20  # |dx| = 80: between the thresholds
    step[1, :3, 4:] = 60  # |dx| = 240 at the top of the second image
    weak, led = canny_edges(step, 50, 150)
    assert not weak.any()
    assert led[:, 3].sum() >= 10


def test_chamfer_distances_by_hand() -> None:
    edges = np.zeros((2, 9, 9), np.bool_)
    edges[0, 0, 0] = True
    distance = chamfer_distance(edges)
    found = [distance[0, row, column] for row, column in ((0, 0), (0, 5), (3, 3), (1, 2), (2, 5), (5, 3))]
    assert found == pytest.approx([0, 5, 4.2, 2.1969, 2 * 2.1969 + 1, 2 * 2.1969 + 1.4])
    assert np.isinf(distance[1]).all()


def test_equalised_levels_by_hand() -> None:
    levels = np.array([[[5, 5, 7, 9]], [[4, 4, 4, 4]]], np.uint8)
    assert spatter.equalised(levels).tolist() == [[[0, 0, 128, 255]], [[4, 4, 4, 4]]]
