"""The same steps by the libraries that the makers used; skipped where these are not installed (none is needed)."""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.training.patterns import image_set
from training.corruptions import blur, digital, spatter, weather
from training.corruptions.catalog import SEVERITIES
from training.corruptions.edges import canny_edges, chamfer_distance
from training.corruptions.motion import motion_blur_along, motion_kernel

IMAGES = image_set(per_class=10).pixels.read(0, 30)
NOTHING = np.random.default_rng(0)


@pytest.fixture(scope="module")
def makers() -> ModuleType:
    """The package imagecorruptions, which is older than numpy 2 and warns of what it uses."""
    pytest.importorskip("cv2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: Any = pytest.importorskip("imagecorruptions.corruptions", exc_type=ImportError)
    module.np = type("numpy_1", (), {"__getattr__": lambda _, name: getattr(np, name), "float_": np.float64})()
    return module  # type: ignore[no-any-return]


def liquids(severity: int, count: int = 40) -> np.ndarray[Any, np.dtype[np.uint8]]:
    mean, std, sigma, cut, _ = spatter.SPATTER[severity - 1]
    liquid = blur.blur_each(NOTHING.normal(mean, std, (count, 32, 32)), sigma)
    return (np.where(liquid < cut, 0, liquid).clip(0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize("decay", [3.0, 1.75])
def test_plasma(makers: ModuleType, decay: float) -> None:
    np.random.seed(4)
    expected = makers.plasma_fractal(32, decay)
    drawn: Any = np.random.RandomState(4)
    assert weather.plasma(1, 32, decay, drawn)[0] == pytest.approx(expected)


def test_disks(makers: ModuleType) -> None:
    for radius, alias in blur.DEFOCUS_RADIUS_ALIAS:
        assert makers.disk(radius, alias)[6:11, 6:11] == pytest.approx(blur.defocus_kernel(radius, alias), abs=1e-6)


def test_motion_blur(makers: ModuleType) -> None:
    degrees = NOTHING.uniform(-180, 180, len(IMAGES))
    for radius, sigma in blur.MOTION_RADIUS_SIGMA:
        assert makers.getMotionBlurKernel(2 * radius + 1, sigma) == pytest.approx(motion_kernel(radius, sigma))
        made = motion_blur_along(IMAGES, radius, sigma, degrees).astype(float)
        for image, angle, mine in zip(IMAGES, degrees, made, strict=True):
            expected = makers._motion_blur(image, radius=radius, sigma=sigma, angle=angle)
            assert np.abs(mine + 0.5 - expected).max() <= 0.51


def test_zoom(makers: ModuleType) -> None:
    for factor in (*np.arange(1, *blur.ZOOM_STOP_STEP[4]), 1.75, 2.25):
        image = IMAGES[0] / 255
        expected = makers.clipped_zoom(image, factor)
        cut = (len(expected) - 32) // 2
        assert blur.zoomed(image[None], factor)[0] == pytest.approx(expected[cut : cut + 32, cut : cut + 32])


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_and_saturation(severity: int) -> None:
    color = pytest.importorskip("skimage.color")
    factor, added = digital.SATURATE_FACTOR_ADDED[severity - 1]
    for image, light, rich in zip(
        IMAGES,
        digital.brightness(IMAGES, severity, NOTHING),
        digital.saturate(IMAGES, severity, NOTHING),
        strict=True,
    ):
        brighter, richer = color.rgb2hsv(image), color.rgb2hsv(image)
        brighter[..., 2] = np.clip(brighter[..., 2] + digital.BRIGHTNESS_ADDED[severity - 1], 0, 1)
        richer[..., 1] = np.clip(richer[..., 1] * factor + added, 0, 1)
        assert np.abs(light + 0.5 - 255 * color.hsv2rgb(brighter)).max() <= 0.5 + 1e-6
        assert np.abs(rich + 0.5 - 255 * color.hsv2rgb(richer)).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_edges_and_distances(severity: int) -> None:
    cv2 = pytest.importorskip("cv2")
    images = liquids(severity)
    edges = canny_edges(images, 50, 150)
    assert np.array_equal(edges, np.stack([cv2.Canny(image, 50, 150) > 0 for image in images]))
    for distance, mask in zip(chamfer_distance(edges), edges, strict=True):
        expected = cv2.distanceTransform(np.where(mask, 0, 255).astype(np.uint8), cv2.DIST_L2, 5)
        if mask.any():
            assert distance == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_water(severity: int) -> None:
    cv2 = pytest.importorskip("cv2")
    images = liquids(severity)
    expected = []
    for image in images:
        distance = cv2.distanceTransform(255 - cv2.Canny(image, 50, 150), cv2.DIST_L2, 5)
        near = cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8)
        embossed = cv2.filter2D(cv2.equalizeHist(near), cv2.CV_8U, spatter.EMBOSS)
        thickness = image * cv2.blur(embossed, (3, 3)).astype(float)
        expected.append(thickness / max(thickness.max(), 1))
    difference = np.abs(spatter.water_thickness(images) - np.stack(expected))
    assert (difference > 0.02).mean() < 0.001  # a mean of distances on the verge of a whole number


def test_moved_corners() -> None:
    """OpenCV 5 samples exactly, the makers' and all before 5 at the nearest 1/32 pixel, as here."""
    cv2 = pytest.importorskip("cv2")
    moves = NOTHING.uniform(-2.5, 2.5, (len(IMAGES), 3, 2))
    corners = np.array([[26, 26], [26, 6], [6, 6]], np.float32)
    moved = 255 * digital.move_corners(IMAGES / 255, moves)
    for image, move, mine in zip(IMAGES, moves, moved, strict=True):
        matrix = cv2.getAffineTransform(corners, (corners + move).astype(np.float32))
        expected = cv2.warpAffine(image.astype(np.float32), matrix, (32, 32), borderMode=cv2.BORDER_REFLECT_101)
        assert np.abs(mine - expected).mean() < 0.5
