"""The nineteen corruptions by name, in the order of the makers' paper: fifteen for tests, four for validation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from training.corruptions import blur, digital, noise, weather
from training.corruptions.spatter import spatter
from training.data.image_set import Images

Corruption = Callable[[Images, int, np.random.Generator], Images]

SEVERITIES = (1, 2, 3, 4, 5)

TEST: dict[str, Corruption] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": digital.brightness,
    "contrast": digital.contrast,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
}
VALIDATION: dict[str, Corruption] = {
    "speckle_noise": noise.speckle_noise,
    "gaussian_blur": blur.gaussian_blur,
    "spatter": spatter,
    "saturate": digital.saturate,
}
CORRUPTIONS: dict[str, Corruption] = {**TEST, **VALIDATION}
