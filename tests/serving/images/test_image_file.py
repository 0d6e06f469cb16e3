from __future__ import annotations

import resource
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from serving.images.fitting import Fitting
from serving.images.image_file import (
    MAX_ASPECT,
    decode_image,
    fit_image,
    read_image,
    resize_shorter_side,
)
from tests.pictures import FORMATS, encoded, picture, pixels, png_chunk, raw_png

# Pillow warns of corrupt metadata; a server lets it, and so must these tests, to see the same behaviour.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin"),
    pytest.mark.filterwarnings("ignore::UserWarning:PIL.PngImagePlugin"),
]

FITTING = Fitting(size=32, shorter_side=32)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_decodes_to_the_picture(kind: str) -> None:
    image = decode_image(encoded(picture(), kind))
    assert (image.mode, image.size) == ("RGB", (40, 30))
    reference = picture().quantize().convert("RGB") if kind == "GIF" else picture()
    tolerance = {"JPEG": 12, "WEBP": 24, "GIF": 40}.get(kind, 0)
    assert abs(pixels(image) - pixels(reference)).max() <= tolerance


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
        (Image.new("L", (4, 4), 77), (77, 77, 77)),
        (Image.new("LA", (4, 4), (100, 255)), (100, 100, 100)),
        (Image.new("LA", (4, 4), (100, 0)), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (10, 20, 30, 0)), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (0, 0, 0, 51)), (204, 204, 204)),
        (Image.new("RGBA", (4, 4), (10, 20, 30, 255)), (10, 20, 30)),
        (Image.new("I;16", (4, 4), 0x8040), (0x80, 0x80, 0x80)),
    ],
)
def test_png_modes(image: Image.Image, expected: tuple[int, int, int]) -> None:
    assert decode_image(encoded(image)).getpixel((1, 1)) == expected


def test_palette_with_transparency_lies_over_white() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putpixel((2, 2), 1)
    for kind in ("PNG", "GIF"):
        decoded = decode_image(encoded(image, kind, transparency=0))
        assert decoded.getpixel((0, 0)) == (255, 255, 255)
        assert decoded.getpixel((2, 2)) == (0, 0, 200)
    half = decode_image(encoded(image, "PNG", transparency=bytes([128, 255])))
    assert half.getpixel((0, 0)) == (227, 127, 127)


def test_transparent_colour_of_rgb_and_grey_png() -> None:
    image = Image.new("RGB", (2, 1), (9, 8, 7))
    image.putpixel((1, 0), (1, 2, 3))
    decoded = decode_image(encoded(image, transparency=(9, 8, 7)))
    assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (1, 2, 3)]
    grey = decode_image(encoded(Image.new("L", (2, 1), 9), transparency=9))
    assert grey.getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bit_png_keeps_the_high_byte() -> None:
    rgb = raw_png(1, 1, 16, 2, b"\0" + bytes([0x12, 0xFF, 0x80, 0x00, 0xFF, 0xFF]))
    assert decode_image(rgb).getpixel((0, 0)) == (0x12, 0x80, 0xFF)
    grey_alpha = raw_png(2, 1, 16, 4, b"\0" + bytes([0x40, 0, 0xFF, 0xFF, 0x40, 0, 0, 0]))
    assert [decode_image(grey_alpha).getpixel((x, 0)) for x in (0, 1)] == [(0x40,) * 3, (255,) * 3]
    rgba = raw_png(1, 1, 16, 6, b"\0" + bytes([1, 0, 2, 0, 3, 0, 0xFF, 0xFF]))
    assert decode_image(rgba).getpixel((0, 0)) == (1, 2, 3)


def test_sixteen_bit_transparent_colour() -> None:
    grey = raw_png(2, 1, 16, 0, b"\0" + bytes([0x40, 0x01, 0x40, 0x02]), png_chunk(b"tRNS", bytes([0x40, 0x01])))
    assert [decode_image(grey).getpixel((x, 0)) for x in (0, 1)] == [(255,) * 3, (0x40,) * 3]
    rows = b"\0" + bytes([0x40, 0, 0x50, 0, 0x60, 0, 0x70, 0, 0x50, 0, 0x60, 0])
    rgb = raw_png(2, 1, 16, 2, rows, png_chunk(b"tRNS", bytes([0x40, 0, 0x50, 0, 0x60, 0])))
    assert [decode_image(rgb).getpixel((x, 0)) for x in (0, 1)] == [(255,) * 3, (0x70, 0x50, 0x60)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 100.0, 255.0]], np.float32), [0, 100, 255]),
        (np.array([[-3.0, np.nan, 65535.0]], np.float32), [0, 0, 255]),
        (np.array([[0x7FA00000, 0, 0x3F800000]], np.uint32).view(np.float32), [0, 0, 255]),  # a signalling NaN
        (np.array([[0.0, np.inf, 1.0]], np.float32), [0, 255, 255]),
        (np.array([[0.0, 1e6, 2e6]], np.float32), [0, 128, 255]),
        (np.array([[-5, 1, 200]], np.int32), [0, 1, 200]),
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
        (np.zeros((1, 3), np.int32), [0, 0, 0]),
    ],
)
def test_wide_tiff_values_are_scaled_by_the_white_that_holds_them(
    values: NDArray[np.number], expected: list[int]
) -> None:
    assert pixels(decode_image(encoded(Image.fromarray(values), "TIFF")))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bit_tiff(order: str) -> None:
    image = Image.fromarray(np.array([[0, 0x0101, 0xFFFF]], order))
    assert pixels(decode_image(encoded(image, "TIFF")))[0, :, 0].tolist() == [0, 1, 255]


def test_cmyk_jpeg_and_tiff_come_out_in_their_colours() -> None:
    red = Image.new("RGB", (16, 16), (255, 0, 0)).convert("CMYK")
    for kind in ("JPEG", "TIFF"):
        assert abs(pixels(decode_image(encoded(red, kind)))[8, 8] - [255, 0, 0]).max() <= 4


def test_lab_tiff_comes_out_in_its_colours() -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    transform = ImageCms.buildTransform(srgb, lab, "RGB", "LAB")
    red = ImageCms.applyTransform(Image.new("RGB", (4, 4), (200, 30, 30)), transform)
    assert red is not None
    assert abs(pixels(decode_image(encoded(red, "TIFF")))[2, 2] - [200, 30, 30]).max() <= 6


def test_a_colour_profile_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert (pixels(decode_image(encoded(picture(), icc_profile=profile))) == pixels(picture())).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert decode_image(data).getpixel((5, 5)) == (250, 0, 0)


def test_frames_after_the_first_are_never_looked_at() -> None:
    first, second = Image.new("L", (50, 50), 10), Image.effect_noise((50, 50), 99)
    data = encoded(first, "GIF", save_all=True, append_images=[second])
    start_of_second = len(encoded(first, "GIF")) + 10
    assert decode_image(data[:start_of_second] + b"\xff" * 200).getpixel((0, 0)) == (10, 10, 10)


UPRIGHT: dict[int, Callable[[NDArray[np.int16]], NDArray[np.int16]]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_orientation_is_applied_once(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    stored = decode_image(encoded(picture(), kind, **options))
    upright = decode_image(encoded(picture(), kind, exif=exif, **options))
    assert (pixels(upright) == UPRIGHT[orientation](pixels(stored))).all()


@pytest.mark.parametrize(
    "exif",
    [b"", b"Exif\0\0", b"Exif\0\0no TIFF", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12"],
)
def test_corrupt_exif_leaves_the_picture_as_stored(exif: bytes) -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        assert (
            pixels(decode_image(encoded(picture(), kind, exif=exif, **options)))
            == pixels(decode_image(encoded(picture(), kind, **options)))
        ).all()


def test_an_orientation_that_does_not_exist_is_none() -> None:
    exif = Image.Exif()
    exif[0x0112] = 99
    assert decode_image(encoded(picture(), exif=exif)).size == (40, 30)


@pytest.mark.parametrize(("size", "shorter_side"), [(32, 32), (224, 256)])
def test_an_image_of_the_right_size_passes_untouched(size: int, shorter_side: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    fitting = Fitting(size=size, shorter_side=shorter_side)
    fitted = read_image(encoded(Image.fromarray(noise)), fitting)
    assert (fitted == noise).all()
    assert fitted.flags.writeable
    assert fitted.flags.c_contiguous


def fitted_by_definition(image: Image.Image, fitting: Fitting) -> NDArray[np.int16]:
    shorter = min(image.size)
    width, height = (round(length * fitting.shorter_side / shorter) for length in image.size)
    left, top = (width - fitting.size) // 2, (height - fitting.size) // 2
    resized = image.resize((width, image.height), Image.Resampling.BICUBIC)
    resized = resized.resize((width, height), Image.Resampling.BICUBIC)
    return pixels(resized.crop((left, top, left + fitting.size, top + fitting.size)))


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from([(32, 32), (7, 7), (31, 40), (56, 64)]),
    st.integers(0, 2**32 - 1),
)
@example(206, 6, (32, 32), 192)
@settings(max_examples=150, deadline=None)
def test_fitting_is_resize_then_centre_crop(width: int, height: int, sizes: tuple[int, int], seed: int) -> None:
    fitting = Fitting(size=sizes[0], shorter_side=sizes[1])
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    if image.size == (fitting.size, fitting.size):
        return
    difference = abs(fit_image(image, fitting).astype(np.int16) - fitted_by_definition(image, fitting))
    # A row that came out one apart is one apart in several rows of its column, and bicubic weights, some of them
    # negative, add up to 1.27 without their signs.
    assert difference.max() <= 2
    assert (difference == 2).mean() <= 0.001


def test_fitting_antialiases() -> None:
    y, x = np.mgrid[0:320, 0:320]
    checkers = np.repeat((255 * ((x + y) % 2)).astype(np.uint8)[:, :, None], 3, axis=2)
    fitted = fit_image(Image.fromarray(checkers), FITTING)
    assert abs(fitted.astype(int) - 127).max() <= 3


@pytest.mark.parametrize("size", [(1, 100_000), (100_000, 1), (3, 1_000_000), (1, 1)])
def test_elongated_images_stay_small(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (9, 90, 200))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fitted = fit_image(image, FITTING)
    resized = resize_shorter_side(image, 32)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB; 3 x 1000000 whole takes 1.3 GiB
    assert (fitted == [9, 90, 200]).all()
    assert min(resized.size) == 32
    assert max(resized.size) <= 32 * MAX_ASPECT


def test_the_centre_of_a_strip_is_kept() -> None:
    strip = Image.new("RGB", (101, 1))
    strip.putpixel((50, 0), (255, 255, 255))
    fitted = fit_image(strip, FITTING)
    assert fitted[:, 12:20].min() > 200
    assert fitted.tolist() == fitted[:, ::-1].tolist()


@pytest.mark.parametrize(
    ("size", "resized"), [((64, 32), (512, 256)), ((100, 333), (256, 852)), ((256, 256), (256, 256))]
)
def test_resize_shorter_side(size: tuple[int, int], resized: tuple[int, int]) -> None:
    image = picture(*size)
    result = resize_shorter_side(image, 256)
    assert result.size == resized
    assert abs(pixels(result) - pixels(image.resize(resized, Image.Resampling.BICUBIC))).max() <= 1
