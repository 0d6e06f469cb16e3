"""Pictures are converted and fitted part by part: the parts are those of the whole, and no more memory is taken."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from serving.images import picture as picture_module
from serving.images.fitting import Fitting
from serving.images.image_file import OpenedImage, fit_image
from serving.images.picture import Picture, bands
from tests.fuzz import memory
from tests.pictures import encoded, picture

WIDTH, HEIGHT = 61, 47
FITTINGS = [Fitting(size=32, shorter_side=32), Fitting(size=21, shorter_side=40), Fitting(size=64, shorter_side=72)]
NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)


def images() -> dict[str, Image.Image]:
    rgba = Image.fromarray(NOISE)
    rgb = rgba.convert("RGB")
    wide = NOISE[:, :, 0].astype(np.int32) * 300 - 20
    clear = rgb.quantize(16)
    clear.info["transparency"] = 3
    colour = rgb.copy()
    colour.info["transparency"] = rgb.getpixel((5, 5))
    deep = Image.fromarray((wide + 20).astype(np.uint16))
    deep_clear = deep.copy()
    deep_clear.info["transparency"] = int(wide[7, 7]) + 20
    return {
        "RGB": rgb,
        "RGB with a clear colour": colour,
        "RGBA": rgba,
        "1": rgb.convert("1"),
        "L": rgb.convert("L"),
        "LA": rgba.convert("LA"),
        "P": rgb.quantize(16),
        "P with a clear colour": clear,
        "CMYK": rgb.convert("CMYK"),
        "I;16": deep,
        "I;16 with a clear value": deep_clear,
        "I": Image.fromarray(wide),
        "F": Image.fromarray(np.where(wide % 7 == 0, np.nan, wide / 9).astype(np.float32)),
    }


@pytest.mark.parametrize("kind", images())
def test_parts_are_those_of_the_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for orientation in range(10):
        whole = Picture(images()[kind], orientation).whole()
        fitted = [fit_image(whole, fitting) for fitting in FITTINGS]
        with monkeypatch.context() as patch:
            patch.setattr(picture_module, "BAND_PIXELS", 150)
            parted = Picture(images()[kind], orientation)
            assert parted.size == whole.size == ((HEIGHT, WIDTH) if orientation in (5, 6, 7, 8) else (WIDTH, HEIGHT))
            assert parted.whole().tobytes() == whole.tobytes()
            box = (3, 11, 40, 29)
            assert parted.region(box).tobytes() == whole.crop(box).tobytes()
            for fitting, expected in zip(FITTINGS, fitted, strict=True):
                assert (fit_image(parted, fitting) == expected).all()


def test_an_rgb_image_is_passed_and_not_copied() -> None:
    image = picture()
    assert Picture(image).whole() is image


def test_bands_cover_a_box_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_module, "BAND_PIXELS", 40)
    assert list(bands((2, 3, 12, 12))) == [(2, 3, 12, 7), (2, 7, 12, 11), (2, 11, 12, 12)]
    assert list(bands((0, 0, 100, 2))) == [(0, 0, 100, 1), (0, 1, 100, 2)]
    assert list(bands((0, 5, 9, 5))) == []


SIZE = (3200, 2400)


def sideways() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def large(mode: str, kind: str, **options: object) -> Callable[[], bytes]:
    return lambda: encoded(Image.new(mode, SIZE, 100), kind, **options)


LARGE = {
    "jpeg": large("RGB", "JPEG"),
    "jpeg sideways": large("RGB", "JPEG", exif=sideways()),
    "jpeg progressive": large("RGB", "JPEG", progressive=True, subsampling=0),
    "jpeg progressive cmyk": large("CMYK", "JPEG", progressive=True),
    "png rgba": large("RGBA", "PNG", compress_level=1),
    "png 16 bits": large("I;16", "PNG", compress_level=1),
    "webp": large("RGB", "WEBP", method=0),
    "webp lossless": large("RGB", "WEBP", lossless=True, method=0, quality=0),
    "bmp": large("RGB", "BMP"),
    "gif": large("P", "GIF"),
    "tiff rgba": large("RGBA", "TIFF", compression="tiff_adobe_deflate"),
    "tiff float": large("F", "TIFF", compression="tiff_adobe_deflate"),
    "tiff float, one strip": large("F", "TIFF", compression="tiff_adobe_deflate", tiffinfo={278: SIZE[1]}),
}


@pytest.mark.parametrize("kind", LARGE)
def test_decoding_takes_no_more_memory_than_it_says(kind: str) -> None:
    data = LARGE[kind]()
    before = memory.resident()
    if not memory.reset_peak():
        pytest.skip("this system does not say how much memory was used at most")
    opened = OpenedImage(data)
    opened.fit(FITTINGS)
    taken = memory.peak() - before
    assert taken < opened.decoding_bytes + 16 * 2**20  # of bands and buffers, whatever the size
    assert opened.decoding_bytes <= 16 * SIZE[0] * SIZE[1]
