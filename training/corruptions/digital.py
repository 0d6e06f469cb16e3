"""Digital corruptions: brightness, contrast, saturation, JPEG, pixelation and elastic deformation.

Each function takes images uint8 [N, 32, 32, 3], a severity 1 .. 5 and a generator, and returns images alike. The
constants are the makers' for 32 pixels (Hendrycks and Dietterich 2019, CIFAR-10-C).
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from training.corruptions.pixels import Values, sample, to_bytes, to_unit
from training.data.image_set import Images

CONTRAST_FACTOR = (0.75, 0.5, 0.4, 0.3, 0.15)
BRIGHTNESS_ADDED = (0.05, 0.10, 0.15, 0.20, 0.30)
SATURATE_FACTOR_ADDED = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))
JPEG_QUALITY = (80, 65, 58, 50, 40)
PIXELATE_SCALE = (0.95, 0.9, 0.85, 0.75, 0.65)
# Strength and smoothness of the displacement, and how far the corners of a triangle move, as shares of the side.
ELASTIC_ALPHA_SIGMA_AFFINE = (
    (0.0, 0.0, 0.08),
    (0.05, 0.2, 0.07),
    (0.08, 0.06, 0.06),
    (0.1, 0.04, 0.05),
    (0.1, 0.03, 0.03),
)


def contrast(images: Images, severity: int, generator: np.random.Generator) -> Images:
    """Bring each channel nearer to its own mean over the image. Draws nothing."""
    values = to_unit(images)
    means = values.mean(axis=(1, 2), keepdims=True)
    return to_bytes((values - means) * CONTRAST_FACTOR[severity - 1] + means)


def brightness(images: Images, severity: int, generator: np.random.Generator) -> Images:
    """Add to V of HSV, hue and saturation kept: the channels grow in proportion. Draws nothing."""
    values = to_unit(images)
    old = values.max(axis=-1, keepdims=True)
    new = np.minimum(old + BRIGHTNESS_ADDED[severity - 1], 1)
    return to_bytes(np.where(old > 0, values / np.where(old > 0, old, 1), 1) * new)


def saturate(images: Images, severity: int, generator: np.random.Generator) -> Images:
    """Turn S of HSV into S · factor + added, hue and V kept; grey has hue 0, so what is added to it is red.

    Draws nothing.
    """
    factor, added = SATURATE_FACTOR_ADDED[severity - 1]
    values = to_unit(images)
    top = values.max(axis=-1, keepdims=True)
    spread = top - values.min(axis=-1, keepdims=True)
    saturation = spread / np.where(top > 0, top, 1)
    below = np.where(spread > 0, (top - values) / np.where(spread > 0, spread, 1), np.array([0.0, 1.0, 1.0]))
    return to_bytes(top - top * np.clip(saturation * factor + added, 0, 1) * below)


def jpeg_compression(images: Images, severity: int, generator: np.random.Generator) -> Images:
    """Through a JPEG file of the given quality. Draws nothing."""

    def through_file(image: Images) -> Images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=JPEG_QUALITY[severity - 1])
        return np.asarray(Image.open(file))

    return np.stack([through_file(image) for image in images])


def pixelate(images: Images, severity: int, generator: np.random.Generator) -> Images:
    """Resize to a share of the side and back, both times by a box filter. Draws nothing."""
    height, width = images.shape[1:3]
    scale = PIXELATE_SCALE[severity - 1]
    small = (int(width * scale), int(height * scale))

    def there_and_back(image: Images) -> Images:
        shrunk = Image.fromarray(image).resize(small, Image.Resampling.BOX)
        return np.asarray(shrunk.resize((width, height), Image.Resampling.BOX))

    return np.stack([there_and_back(image) for image in images])


def elastic_transform(images: Images, severity: int, generator: np.random.Generator) -> Images:
    """Move three corners of a triangle at random (an affine map), then every pixel by a smooth random displacement."""
    alpha, sigma, affine = (share * images.shape[1] for share in ELASTIC_ALPHA_SIGMA_AFFINE[severity - 1])
    count, height, width, _ = images.shape
    moved = move_corners(to_unit(images), generator.uniform(-affine, affine, (count, 3, 2)))
    rows, columns = np.mgrid[0:height, 0:width]
    right, down = (_smooth(generator.uniform(-1, 1, (count, height, width)), sigma) * alpha for _ in range(2))
    return to_bytes(sample(moved, rows + down, columns + right, "reflect"))


def _smooth(noise: Values, sigma: float) -> Values:
    return np.asarray(gaussian_filter(noise, (0, sigma, sigma), mode="reflect", truncate=3))


def move_corners(values: Values, moves: Values) -> Values:
    """Map ``values`` [N, S, S, C] so that three points (x, y) about the middle land ``moves`` [N, 3, 2] away.

    Sampled linearly at the nearest 1/32 pixel, mirrored at the edge.
    """
    side = values.shape[1]
    middle, arm = side // 2, side // 3
    points = np.array([[middle + arm, middle + arm], [middle + arm, middle - arm], [middle - arm, middle - arm]])
    landed = np.concatenate([points + moves, np.ones((*moves.shape[:2], 1))], axis=2)
    back = np.linalg.solve(landed, np.broadcast_to(points, moves.shape))  # [N, 3, 2]: (x, y, 1) -> (x, y) before
    rows, columns = np.mgrid[0:side, 0:side]
    places = np.stack([columns, rows, np.ones_like(rows)], axis=-1)
    before = np.floor(np.einsum("hwk,nkd->nhwd", places, back, optimize=True) * 32 + 0.5) / 32
    return sample(values, before[..., 1], before[..., 0], "mirror")
