"""Weather: fog, frost and snow (spatter has a module of its own).

Each function takes images uint8 [N, 32, 32, 3], a severity 1 .. 5 and a generator, and returns images alike. The
constants are the makers' for 32 pixels (Hendrycks and Dietterich 2019, CIFAR-10-C).
"""

from __future__ import annotations

import numpy as np

from training.corruptions.blur import zoomed
from training.corruptions.frost_photographs import frost_photographs
from training.corruptions.motion import motion_blur_along
from training.corruptions.pixels import Values, to_bytes, to_unit
from training.data.image_set import Images

FOG_STRENGTH_DECAY = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))
FROST_WEIGHTS = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))  # of the image, of the frost
# Mean and standard deviation of the flakes, their enlargement, the cut below which there is none, radius and sigma of
# their motion, weight of the image.
SNOW: tuple[tuple[float, float, float, float, int, float, float], ...] = (
    (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
    (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
)
SNOW_LOWEST, SNOW_HIGHEST = -135.0, -45.0  # degrees
LUMA = np.array([0.299, 0.587, 0.114])


def plasma(count: int, side: int, decay: float, generator: np.random.Generator) -> Values:
    """Return ``count`` cloud maps [count, side, side] in [0, 1] by the diamond-square method on a torus.

    From a coarse grid to a fine one, each new point is the mean of its four neighbours plus a uniform draw of a range
    that shrinks by ``decay``² a level, from ±100² on. ``side`` is a power of 2.
    """
    maps = np.zeros((count, side, side))
    step, wobble = side, 100.0

    def between(neighbours: Values) -> Values:
        return neighbours / 4 + wobble * generator.uniform(-wobble, wobble, neighbours.shape)

    while step >= 2:
        half = step // 2
        corners = maps[:, ::step, ::step]
        pairs = corners + np.roll(corners, -1, axis=1)
        middles = between(pairs + np.roll(pairs, -1, axis=2))
        maps[:, half::step, half::step] = middles
        maps[:, ::step, half::step] = between(middles + np.roll(middles, 1, axis=1) + corners + np.roll(corners, -1, 2))
        maps[:, half::step, ::step] = between(middles + np.roll(middles, 1, axis=2) + corners + np.roll(corners, -1, 1))
        step, wobble = half, wobble / decay
    maps -= maps.min(axis=(1, 2), keepdims=True)
    return np.asarray(maps / maps.max(axis=(1, 2), keepdims=True))


def fog(images: Images, severity: int, generator: np.random.Generator) -> Images:
    """Add a cloud map, one an image, and scale so that the image's brightest value stays where it was."""
    strength, decay = FOG_STRENGTH_DECAY[severity - 1]
    values = to_unit(images)
    brightest = values.max(axis=(1, 2, 3), keepdims=True)
    clouds = strength * plasma(len(images), images.shape[1], decay, generator)[..., None]
    return to_bytes((values + clouds) * brightest / (brightest + strength))


def frost(images: Images, severity: int, generator: np.random.Generator) -> Images:
    """Add a random cut of a photograph of frost. Raises DataError without the photographs."""
    of_image, of_frost = FROST_WEIGHTS[severity - 1]
    photographs = frost_photographs()
    height, width = images.shape[1:3]
    frosted = np.empty(images.shape)
    for index, choice in enumerate(generator.integers(0, len(photographs), len(images))):
        photograph = photographs[choice]
        top = generator.integers(0, photograph.shape[0] - height)
        left = generator.integers(0, photograph.shape[1] - width)
        cut = photograph[top : top + height, left : left + width]
        frosted[index] = of_image * images[index] + of_frost * cut
    return np.clip(frosted, 0, 255).astype(np.uint8)


def snow(images: Images, severity: int, generator: np.random.Generator) -> Images:
    """Whiten the image, then add flakes blurred along their fall, and the same flakes turned by half a turn."""
    mean, std, factor, cut, radius, sigma, kept = SNOW[severity - 1]
    count, height, width, _ = images.shape
    layer = zoomed(generator.normal(mean, std, (count, height, width, 1)), factor)
    degrees = generator.uniform(SNOW_LOWEST, SNOW_HIGHEST, len(images))
    flakes = to_unit(motion_blur_along(to_bytes(np.where(layer < cut, 0, layer)), radius, sigma, degrees))
    values = to_unit(images)
    whitened = np.maximum(values, (values @ LUMA)[..., None] * 1.5 + 0.5)
    return to_bytes(kept * values + (1 - kept) * whitened + flakes + flakes[:, ::-1, ::-1])
