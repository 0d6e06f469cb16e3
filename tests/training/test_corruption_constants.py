"""The makers' severity constants for images of 32 pixels, written out by hand, against those that the code has."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from tests.training.patterns import image_set
from training.corruptions import blur, digital, noise, spatter, weather
from training.corruptions.catalog import CORRUPTIONS, SEVERITIES
from training.corruptions.generate import corrupt
from training.data.draws import generator

# Severities 1 to 5 of CIFAR-10-C (Hendrycks and Dietterich 2019); its constants differ from ImageNet-C's. What each
# number of a cell is, the modules say.
TABLE = """
gaussian_noise      .04  .06  .08  .09  .10
shot_noise          500  250  100  75  50
impulse_noise       .01  .02  .03  .05  .07
speckle_noise       .06  .10  .12  .16  .20
gaussian_blur       .4  .6  .7  .8  1
glass_blur          .05,1  .25,1  .4,1  .25,2  .4,2
defocus_blur        .3,.4  .4,.5  .5,.6  1,.2  1.5,.1
motion_blur         6,1  6,1.5  6,2  8,2  9,2.5
zoom_blur           1.06,.01  1.11,.01  1.16,.01  1.21,.01  1.26,.01
fog                 .2,3  .5,3  .75,2.5  1,2  1.5,1.75
frost               1,.2  1,.3  .9,.4  .85,.4  .75,.45
snow                .1,.2,1,.6,8,3,.95  .1,.2,1,.5,10,4,.9  .15,.3,1.75,.55,10,4,.9  .25,.3,2.25,.6,12,6,.85 \
                    .3,.3,1.25,.65,14,12,.8
spatter             .62,.1,.7,.7,.5  .65,.1,.8,.7,.5  .65,.3,1,.69,.5  .65,.1,.7,.69,.6  .65,.1,.5,.68,.6
contrast            .75  .5  .4  .3  .15
brightness          .05  .10  .15  .20  .30
saturate            .3,0  .1,0  1.5,0  2,.1  2.5,.2
jpeg_compression    80  65  58  50  40
pixelate            .95  .9  .85  .75  .65
elastic_transform   0,0,.08  .05,.2,.07  .08,.06,.06  .1,.04,.05  .1,.03,.03
"""
# Where the code has them: module and name.
PLACES: dict[str, tuple[ModuleType, str]] = {
    "gaussian_noise": (noise, "GAUSSIAN_STD"),
    "shot_noise": (noise, "SHOT_PHOTONS"),
    "impulse_noise": (noise, "IMPULSE_SHARE"),
    "speckle_noise": (noise, "SPECKLE_STD"),
    "gaussian_blur": (blur, "GAUSSIAN_SIGMA"),
    "glass_blur": (blur, "GLASS_SIGMA_ROUNDS"),
    "defocus_blur": (blur, "DEFOCUS_RADIUS_ALIAS"),
    "motion_blur": (blur, "MOTION_RADIUS_SIGMA"),
    "zoom_blur": (blur, "ZOOM_STOP_STEP"),
    "fog": (weather, "FOG_STRENGTH_DECAY"),
    "frost": (weather, "FROST_WEIGHTS"),
    "snow": (weather, "SNOW"),
    "spatter": (spatter, "SPATTER"),
    "contrast": (digital, "CONTRAST_FACTOR"),
    "brightness": (digital, "BRIGHTNESS_ADDED"),
    "saturate": (digital, "SATURATE_FACTOR_ADDED"),
    "jpeg_compression": (digital, "JPEG_QUALITY"),
    "pixelate": (digital, "PIXELATE_SCALE"),
    "elastic_transform": (digital, "ELASTIC_ALPHA_SIGMA_AFFINE"),
}
IMAGES = image_set(per_class=4).pixels.read(0, 12)


def makers() -> dict[str, list[tuple[float, ...]]]:
    """Return the table: name -> the constants of each severity."""
    rows = [line.split() for line in TABLE.replace("\\\n", "").strip().splitlines()]
    return {name: [tuple(float(part) for part in cell.split(",")) for cell in cells] for name, *cells in rows}


def test_the_table_has_every_corruption_at_every_severity() -> None:
    assert makers().keys() == PLACES.keys() == CORRUPTIONS.keys()
    assert {len(constants) for constants in makers().values()} == {len(SEVERITIES)}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_constants_are_the_makers(name: str) -> None:
    module, constant = PLACES[name]
    assert [tuple(np.atleast_1d(value)) for value in getattr(module, constant)] == makers()[name]


def test_the_constants_that_do_not_change_with_severity_are_the_makers() -> None:
    assert blur.MOTION_DEGREES == 45
    assert (weather.SNOW_LOWEST, weather.SNOW_HIGHEST) == (-135, -45)
    assert spatter.FIRST_MUD == 4  # water at 1 to 3, mud at 4 and 5


@pytest.mark.usefixtures("photographs_installed")
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_severity_is_made_by_its_own_constants(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the constants of two severities in each other's place, each makes what the other made."""
    module, constant = PLACES[name]
    made = {severity: corrupt(IMAGES, name, severity, seed=0) for severity in SEVERITIES}
    first, second, third, fourth, fifth = getattr(module, constant)
    monkeypatch.setattr(module, constant, (second, first, third, fifth, fourth))
    function = CORRUPTIONS[name]
    for severity, other in ((1, 2), (2, 1), (3, 3), (4, 5), (5, 4)):
        place = generator("corruptions", 0, list(CORRUPTIONS).index(name), other, 0)
        assert np.array_equal(function(IMAGES, severity, place), made[other])
        assert other == severity or not np.array_equal(made[severity], made[other])
