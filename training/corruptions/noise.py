"""Noise: Gaussian, shot, impulse and speckle.

Each function takes images uint8 [N, 32, 32, 3], a severity 1 .. 5 and a generator, and returns images alike. The
constants are the makers' for 32 pixels (Hendrycks and Dietterich 2019, CIFAR-10-C).
"""

from __future__ import annotations

import numpy as np

from training.corruptions.pixels import to_bytes, to_unit
from training.data.image_set import Images

GAUSSIAN_STD = (0.04, 0.06, 0.08, 0.09, 0.10)
SHOT_PHOTONS = (500, 250, 100, 75, 50)
IMPULSE_SHARE = (0.01, 0.02, 0.03, 0.05, 0.07)
SPECKLE_STD = (0.06, 0.10, 0.12, 0.16, 0.20)


def gaussian_noise(images: Images, severity: int, generator: np.random.Generator) -> Images:
    """x + N(0, std²), each value on its own."""
    return to_bytes(to_unit(images) + generator.normal(0, GAUSSIAN_STD[severity - 1], images.shape))


def shot_noise(images: Images, severity: int, generator: np.random.Generator) -> Images:
    """Poisson(x · photons) / photons, each value on its own."""
    photons = SHOT_PHOTONS[severity - 1]
    return to_bytes(generator.poisson(to_unit(images) * photons) / photons)


def impulse_noise(images: Images, severity: int, generator: np.random.Generator) -> Images:
    """A share of the values, each channel on its own, becomes 0 or 1 with equal probability."""
    hit = generator.random(images.shape) < IMPULSE_SHARE[severity - 1]
    salt = generator.random(images.shape) < 0.5
    return np.where(hit, np.where(salt, 255, 0), images).astype(np.uint8)


def speckle_noise(images: Images, severity: int, generator: np.random.Generator) -> Images:
    """x + x · N(0, std²), each value on its own."""
    values = to_unit(images)
    return to_bytes(values + values * generator.normal(0, SPECKLE_STD[severity - 1], images.shape))
