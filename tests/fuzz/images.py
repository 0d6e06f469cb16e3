"""Image fuzzing: damaged files through ``read_image``: pixels or an ImageError, soon and in little memory."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from random import Random

import numpy as np
from PIL import Image, PngImagePlugin

from serving.images.fitting import Fitting
from serving.images.image_file import ImageError, ignore_metadata_warnings, read_image
from tests.fuzz.mutations import mutated
from tests.pictures import encoded, picture

FITTING = Fitting(size=32, shorter_side=40)
MAX_PIXELS = 1_000_000
# Of processor time, for a file of 200 kB and a megapixel at most; a scan over it takes some hundredths.
MAX_SECONDS = 3.0


@cache
def seeds() -> tuple[bytes, ...]:
    """Return small valid files of every format, mode and compression that the readers know apart."""
    image, other = picture(24, 17), Image.new("RGB", (24, 17), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "words " * 30, zip=True)
    text.add_itxt("title", "words", lang="en")
    animated = {"save_all": True, "append_images": [other]}
    files = [
        encoded(image, "PNG", pnginfo=text, exif=exif, dpi=(72, 72)),
        encoded(image.quantize(16), "PNG", transparency=3),
        encoded(image.convert("1"), "PNG"),
        encoded(image.convert("LA"), "PNG"),
        encoded(image.convert("RGBA"), "PNG"),
        encoded(Image.new("I;16", (24, 17), 999), "PNG"),
        encoded(image, "PNG", **animated),
        encoded(image, "JPEG", exif=exif, comment=b"words"),
        encoded(image, "JPEG", progressive=True, subsampling=0),
        encoded(image.convert("L"), "JPEG"),
        encoded(image.convert("CMYK"), "JPEG", restart_marker_blocks=1),
        encoded(image, "WEBP", exif=exif),
        encoded(image.convert("RGBA"), "WEBP", lossless=True, **animated),
        *(encoded(image.convert(mode), "BMP") for mode in ("RGB", "P", "1", "RGBA")),
        encoded(image, "GIF", **animated),
        encoded(image.quantize(16), "GIF", transparency=3, interlace=1, comment=b"words"),
        *(encoded(image, "TIFF", compression=kind) for kind in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits")),
        encoded(image, "TIFF", compression="jpeg"),
        encoded(image.convert("1"), "TIFF", compression="group4"),
        encoded(Image.new("F", (24, 17), 0.5), "TIFF"),
        encoded(Image.new("I;16", (24, 17), 999), "TIFF"),
        encoded(image.convert("CMYK"), "TIFF", exif=exif),
    ]
    return tuple(files)


def damaged_image(random: Random) -> bytes:
    """Return a valid file after a few mutations."""
    return mutated(random, random.choice(seeds()), seeds())


def judge(data: bytes) -> bool:
    """Read one file; return whether it gave pixels. Raises AssertionError, or what else the reader raised."""
    started = time.thread_time()
    array, refused = None, None
    try:
        array = read_image(data, FITTING, max_pixels=MAX_PIXELS)
    except ImageError as error:
        refused = error
    seconds = time.thread_time() - started
    assert seconds < MAX_SECONDS, f"{seconds:.1f} s of processor time for {len(data)} bytes"
    if array is not None:
        assert array.dtype == np.uint8
        assert array.shape == (FITTING.size, FITTING.size, 3)
    if refused is not None:
        assert refused.status in (413, 415, 422)
        assert refused.reason.isprintable()
        assert len(refused.reason) < 400
    return array is not None


@contextmanager
def pillow_as_served() -> Iterator[None]:
    """Let Pillow warn of nothing that a server does not ignore. Raises AssertionError at the end where it has."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        ignore_metadata_warnings()
        yield
    assert not shown, f"a server would print, and remember: {shown[0].message}"
