"""What holds for every corruption, and the closed forms of noise and digital ones."""

from __future__ import annotations

import colorsys
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import map_coordinates

from tests.training.patterns import image_set
from training.corruptions import digital, noise
from training.corruptions.catalog import CORRUPTIONS, SEVERITIES, TEST, VALIDATION
from training.corruptions.generate import corrupt
from training.corruptions.pixels import Border, inside, sample, to_bytes, to_unit

IMAGES = image_set(per_class=5).pixels.read(0, 15)
DRAWS_NOTHING = {
    "gaussian_blur",
    "defocus_blur",
    "zoom_blur",
    "brightness",
    "contrast",
    "saturate",
    "jpeg_compression",
    "pixelate",
}
# Not those whose constants do not all grow with severity, nor pixelate: what it does to stripes depends on their width.
GROWS = {
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "speckle_noise",
    "gaussian_blur",
    "defocus_blur",
    "zoom_blur",
    "fog",
    "brightness",
    "contrast",
    "jpeg_compression",
}


def flat(value: int, count: int = 20) -> NDArray[np.uint8]:
    return np.full((count, 32, 32, 3), value, np.uint8)


def nothing() -> np.random.Generator:
    return np.random.default_rng(0)


def test_there_are_fifteen_and_four() -> None:
    assert (len(TEST), len(VALIDATION), len(CORRUPTIONS)) == (15, 4, 19)


@pytest.mark.usefixtures("photographs_installed")
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_is_of_its_kind_and_repeats(name: str) -> None:
    before = IMAGES.copy()
    for severity in SEVERITIES:
        made = corrupt(IMAGES, name, severity, seed=3)
        assert (made.dtype, made.shape) == (np.uint8, IMAGES.shape)
        assert np.array_equal(made, corrupt(IMAGES, name, severity, seed=3))
        assert not np.array_equal(made, IMAGES)
        other_seed, other_chunk = (corrupt(IMAGES, name, severity, seed=4), corrupt(IMAGES, name, severity, 3, chunk=1))
        assert np.array_equal(made, other_seed) == np.array_equal(made, other_chunk) == (name in DRAWS_NOTHING)
    assert np.array_equal(IMAGES, before)


@pytest.mark.parametrize("name", sorted(GROWS))
def test_severity_takes_images_further_away(name: str) -> None:
    distances = [
        np.mean((corrupt(IMAGES, name, severity, seed=0).astype(float) - IMAGES) ** 2) for severity in SEVERITIES
    ]
    assert distances == sorted(distances)
    assert distances[0] > 0


def test_an_images_corruption_is_its_own() -> None:
    """Vectorised over images, but none leaks into another: a black image among others stays as dark as alone."""
    mixed = np.concatenate([flat(0, 1), IMAGES])
    for name in DRAWS_NOTHING:
        for severity in SEVERITIES:
            alone = corrupt(IMAGES, name, severity, seed=0)
            assert np.array_equal(corrupt(mixed, name, severity, seed=0)[1:], alone), name


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_the_makers_strength(severity: int) -> None:
    grey = to_unit(flat(128))
    std = {
        noise.gaussian_noise: noise.GAUSSIAN_STD[severity - 1],
        noise.speckle_noise: grey[0, 0, 0, 0] * noise.SPECKLE_STD[severity - 1],
        noise.shot_noise: np.sqrt(grey[0, 0, 0, 0] / noise.SHOT_PHOTONS[severity - 1]),
    }
    for function, expected in std.items():
        difference = to_unit(function(flat(128), severity, nothing())) - grey
        assert difference.std() == pytest.approx(expected, rel=0.03)
        assert difference.mean() == pytest.approx(-0.5 / 255, abs=0.002)  # whole levels are cut, not rounded
    hit = noise.impulse_noise(flat(128), severity, nothing())
    assert set(np.unique(hit)) == {0, 128, 255}
    share = noise.IMPULSE_SHARE[severity - 1]
    assert np.mean(hit != 128) == pytest.approx(share, rel=0.1)
    assert np.mean(hit == 255) == pytest.approx(share / 2, rel=0.15)


def by_hsv(pixel: NDArray[np.uint8], s_factor: float, s_added: float, v_added: float) -> list[float]:
    """Return the pixel, of 255, with S · s_factor + s_added and V + v_added, by the standard library."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(pixel / 255))
    saturation = min(max(saturation * s_factor + s_added, 0), 1)
    return [255 * part for part in colorsys.hsv_to_rgb(hue, saturation, min(value + v_added, 1))]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_and_saturation_are_those_of_hsv(severity: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    pixels[0, 0] = np.arange(32)[:, None] * 8  # greys, black among them
    brighter = digital.brightness(pixels, severity, nothing()).reshape(-1, 3)
    richer = digital.saturate(pixels, severity, nothing()).reshape(-1, 3)
    factor, added = digital.SATURATE_FACTOR_ADDED[severity - 1]
    for index, pixel in enumerate(pixels.reshape(-1, 3)):
        light = by_hsv(pixel, 1, 0, digital.BRIGHTNESS_ADDED[severity - 1])
        colour = by_hsv(pixel, factor, added, 0)
        assert np.all(np.abs(brighter[index] + 0.5 - light) <= 0.5 + 1e-6)
        assert np.all(np.abs(richer[index] + 0.5 - colour) <= 0.5 + 1e-6)


def test_contrast_keeps_each_channels_mean() -> None:
    halves = flat(0, 1)
    halves[:, :16] = (200, 100, 40)
    for severity, factor in enumerate(digital.CONTRAST_FACTOR, start=1):
        made = digital.contrast(halves, severity, nothing())
        for channel, mean in enumerate((100, 50, 20)):
            assert abs(int(made[0, 0, 0, channel]) - mean * (1 + factor)) <= 1
            assert abs(int(made[0, 31, 0, channel]) - mean * (1 - factor)) <= 1


@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_and_pixelate_are_pillows(severity: int) -> None:
    quality, side = (80, 65, 58, 50, 40)[severity - 1], (30, 28, 27, 24, 20)[severity - 1]
    for index in range(3):
        picture = Image.fromarray(IMAGES[index])
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        assert np.array_equal(digital.jpeg_compression(IMAGES, severity, nothing())[index], Image.open(file))
        small = picture.resize((side, side), Image.Resampling.BOX).resize((32, 32), Image.Resampling.BOX)
        assert np.array_equal(digital.pixelate(IMAGES, severity, nothing())[index], small)


def test_moving_all_corners_alike_shifts_the_image_mirrored_at_the_edge() -> None:
    values = to_unit(IMAGES[:2])
    moves = np.broadcast_to(np.array([3.0, -2.0]), (2, 3, 2))  # 3 to the right, 2 up
    padded = np.pad(values, ((0, 0), (5, 5), (5, 5), (0, 0)), mode="reflect")
    assert digital.move_corners(values, moves) == pytest.approx(padded[:, 7:39, 2:34], abs=1e-9)


def test_moved_corners_land_where_they_should() -> None:
    dots = np.zeros((1, 32, 32, 1))
    corners = ((26, 26), (26, 6), (6, 6))  # x, y
    for x, y in corners:
        dots[0, y, x] = 1
    moves = np.array([[[2.0, 1.0], [-1.0, 2.0], [3.0, -4.0]]])
    moved = digital.move_corners(dots, moves)[0, :, :, 0]
    for (x, y), (right, down) in zip(corners, moves[0].astype(int), strict=True):
        assert moved[y + down, x + right] == pytest.approx(1, abs=0.05)


def test_elastic_leaves_a_flat_image_alone_and_moves_by_what_it_draws() -> None:
    for severity in SEVERITIES:
        assert np.ptp(digital.elastic_transform(flat(77, 2), severity, nothing())) <= 1
    drawn = nothing()
    moved = digital.move_corners(to_unit(IMAGES), drawn.uniform(-0.08 * 32, 0.08 * 32, (len(IMAGES), 3, 2)))
    assert np.array_equal(digital.elastic_transform(IMAGES, 1, nothing()), to_bytes(moved))  # severity 1: affine alone


PAD_MODES: dict[Border, str] = {"edge": "edge", "mirror": "reflect", "reflect": "symmetric"}


@given(st.sampled_from(sorted(PAD_MODES)), st.integers(2, 9), st.data())
def test_places_outside_lead_inside_as_padding_does(border: Border, size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(-3 * size, 4 * size))
    padded = np.pad(np.arange(size), 4 * size, mode=PAD_MODES[border])  # type: ignore[call-overload]
    assert inside(np.array([index]), size, border)[0] == padded[index + 4 * size]


@pytest.mark.parametrize("border", ["mirror", "reflect"])
def test_sampling_is_scipys(border: Border) -> None:
    generator = np.random.default_rng(5)
    values = generator.random((3, 8, 8, 2))
    rows, columns = generator.uniform(-6, 14, (2, 3, 8, 8))
    sampled = sample(values, rows, columns, border)
    for index in range(3):
        for channel in range(2):
            expected = map_coordinates(values[index, ..., channel], (rows[index], columns[index]), order=1, mode=border)
            assert sampled[index, ..., channel] == pytest.approx(expected)
