"""Files that are no image, are cut off, or mean harm: each refused with its reason, and nothing else is raised."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from serving.images.fitting import Fitting
from serving.images.image_file import (
    MAX_PIXELS_LIMIT,
    ImageError,
    OpenedImage,
    decode_image,
    ignore_metadata_warnings,
    read_image,
)
from tests.pictures import FORMATS, encoded, picture, pixels, png_chunk, raw_png, refusal

# Pillow warns of corrupt metadata; a server lets it, and so must these tests, to see the same behaviour.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin"),
    pytest.mark.filterwarnings("ignore::UserWarning:PIL.PngImagePlugin"),
]

FITTING = Fitting(size=32, shorter_side=32)


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"<svg></svg>", b"%PDF-1.7", b"\0" * 100, b"RIFF\0\0\0\0WAVE", b"\xff\xd8"]
)
def test_not_an_image(data: bytes) -> None:
    error = refusal(data)
    assert (error.code, error.status) == ("not_an_image", 415)
    assert "PNG, JPEG, WebP, BMP, GIF, TIFF" in error.reason


def test_formats_that_pillow_could_read_but_are_not_taken() -> None:
    for kind in ("PPM", "ICO", "TGA", "PDF", "PCX"):
        assert refusal(encoded(picture(16, 16), kind)).code == "not_an_image"


@pytest.mark.parametrize("kind", [*FORMATS, "progressive", "lzw", "deflate"])
def test_a_truncated_file_is_refused_or_lacks_no_pixel(kind: str) -> None:
    image = picture(60, 50)
    if kind == "progressive":
        data = encoded(image, "JPEG", progressive=True)
    elif kind in ("lzw", "deflate"):
        data = encoded(image, "TIFF", compression=f"tiff_{kind}")
    else:
        data = encoded(image, kind)
    whole = pixels(decode_image(data))
    refusals = []
    for end in range(16, len(data), max(1, len(data) // 150)):
        try:
            assert (pixels(decode_image(data[:end])) == whole).all()
        except ImageError as error:
            refusals.append(error.code)
    assert len(refusals) > 100
    assert set(refusals) == {"undecodable_image"}


def test_the_reason_names_the_format_and_nothing_of_the_machine() -> None:
    error = refusal(encoded(picture())[:200])
    assert error.reason.startswith("this PNG file will not decode: ")
    assert "0x" not in error.reason
    assert "BytesIO" not in error.reason


@pytest.mark.parametrize("kind", FORMATS)
def test_too_many_pixels(kind: str) -> None:
    data = encoded(picture(40, 30), kind)
    assert decode_image(data, max_pixels=1200).size == (40, 30)
    error = refusal(data, max_pixels=1199)
    assert (error.code, error.status) == ("image_too_large", 413)
    assert "40 x 30" in error.reason


def gif_bomb(width: int, height: int) -> bytes:
    screen = b"GIF89a" + struct.pack("<HHBBB", 10, 10, 0x80, 0, 0) + bytes(6)
    return screen + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00;"


def webp_bomb(width: int, height: int) -> bytes:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = bytearray(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    assert data[12:16] == b"VP8X"
    data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def tiff_with_tags(*tags: tuple[int, int]) -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


BOMBS = {
    "png": raw_png(60_000, 60_000, 1, 0, b""),
    "png just over Pillow's warning": raw_png(10_000, 9_000, 1, 0, b""),
    "gif frame": gif_bomb(60_000, 60_000),
    "gif frame just over Pillow's warning": gif_bomb(10_000, 9_000),
    "webp": webp_bomb(9_999, 9_000),
    "webp beyond Pillow's error": webp_bomb(60_000, 60_000),
    "bmp": b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "tiff": tiff_with_tags(
        (256, 60_000), (257, 60_000), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 60_000), (279, 9)
    ),
    "tiff tile": tiff_with_tags(
        (256, 1), (257, 1), (258, 8), (259, 8), (262, 1), (277, 1), (322, 60_000), (323, 30_000), (324, 8), (325, 9)
    ),
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("filters", ["error", "ignore"])
def test_bombs_without_a_pixel_to_decode_are_refused_from_the_header(
    name: str, filters: Literal["error", "ignore"]
) -> None:
    warnings.simplefilter(filters)
    error = refusal(BOMBS[name])
    assert (error.code, error.status) == ("image_too_large", 413)


def test_a_tile_larger_than_its_image_counts() -> None:
    data = encoded(picture(16, 16), "TIFF")
    assert OpenedImage(data).decoding_bytes == 12 * 16 * 16
    tags = ((256, 16), (257, 16), (258, 8), (259, 8), (262, 1), (277, 1), (322, 4096), (323, 1024), (324, 8), (325, 9))
    assert OpenedImage(tiff_with_tags(*tags)).decoding_bytes == 12 * 4096 * 1024


def test_pillows_own_limit_is_left_alone() -> None:
    assert Image.MAX_IMAGE_PIXELS == MAX_PIXELS_LIMIT


def test_a_progressive_jpeg_of_endless_scans_is_refused() -> None:
    data = encoded(Image.new("L", (64, 64), 128), "JPEG", progressive=True)
    last_scan = data[data.rfind(b"\xff\xda") : -2]
    bomb = data[:-2] + last_scan * 200 + data[-2:]
    assert "scans" in refusal(bomb).reason
    assert decode_image(data[:-2] + last_scan * 20 + data[-2:]).size == (64, 64)


@pytest.mark.parametrize("filler", [b"\xff\xe0\0\2", b"\0", b"\xff"])
def test_a_jpeg_that_is_slow_to_skip_through_is_refused(filler: bytes) -> None:
    head, tail = b"\xff\xd8\xff\xe0\0\2", encoded(picture(), "JPEG")[2:]
    assert "stray bytes" in refusal(head + filler * 100_000 + tail).reason
    assert (pixels(decode_image(head + filler * 100 + tail)) == pixels(decode_image(head + tail))).all()


def test_a_png_of_endless_chunks_is_refused() -> None:
    chunk = png_chunk(b"prVt", b"")
    assert "chunks" in refusal(raw_png(1, 1, 8, 0, b"\0\7", chunk * 60_000)).reason
    assert decode_image(raw_png(1, 1, 8, 0, b"\0\7", chunk * 1000)).getpixel((0, 0)) == (7, 7, 7)


@contextmanager
def remembering_no_more_than_one(module: ModuleType) -> Iterator[None]:
    """Check that a module remembers one text of a warning at most, in a process as it starts: no filter of a test."""
    remembered = module.__dict__.setdefault("__warningregistry__", {})
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("default")
        ignore_metadata_warnings()
        before = len(remembered)
        yield
        assert len(remembered) <= before + 1


def test_warnings_whose_text_a_file_chooses_are_not_remembered() -> None:
    with remembering_no_more_than_one(TiffImagePlugin):
        for tag in range(40_000, 40_050):
            entry = struct.pack("<HHII", tag, 2, 1000, 5000)  # a text of 1000 bytes behind the end of the file
            assert refusal(b"II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)).code == "undecodable_image"


def test_the_sizes_of_gif_bombs_are_not_remembered() -> None:
    with remembering_no_more_than_one(Image):
        for width in range(10_000, 10_050):
            assert refusal(gif_bomb(width, 9_000)).code == "image_too_large"


def bmp_of_runs(width: int, height: int, runs: bytes, *, compression: int = 1) -> bytes:
    """A grey BMP with run-length encoding: of bytes, or of half bytes where ``compression`` is 2."""
    bits = 8 if compression == 1 else 4
    palette = b"".join(bytes((grey, grey, grey, 0)) for grey in range(1 << bits))
    sizes = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 1 << bits, 0)
    return b"BM" + bytes(8) + struct.pack("<I", 54 + len(palette)) + sizes + palette + runs


@pytest.mark.parametrize("compression", [1, 2])
def test_a_bmp_of_runs_is_read_up_to_a_megapixel(compression: int) -> None:
    runs = b"\x20\0\0\0" * 32 + b"\0\1"
    assert decode_image(bmp_of_runs(32, 32, runs, compression=compression)).getpixel((31, 31)) == (0, 0, 0)
    one_run = b"\1\0\0\0"  # a pixel, then the end of the row: Pillow fills it byte by byte
    assert decode_image(bmp_of_runs(1 << 20, 1, one_run, compression=compression)).size == (1 << 20, 1)
    error = refusal(bmp_of_runs((1 << 20) + 1, 1, one_run, compression=compression))
    assert (error.code, error.status) == ("image_too_large", 413)
    assert "run-length" in error.reason
    assert "PNG" in error.reason
    endless = bmp_of_runs(1000, 1000, b"\1\0" * 3_000_000, compression=compression)  # beyond the end of the first row
    assert "bytes" in refusal(endless).reason


def test_scan_markers_in_metadata_or_after_the_end_do_not_count() -> None:
    data = encoded(picture(), "JPEG", comment=b"\xff\xda\0\2" * 300)
    assert (
        pixels(decode_image(data + b"\0\2" + b"\xff\xda\0\2" * 300)) == pixels(decode_image(encoded(picture(), "JPEG")))
    ).all()


SEEDS = [
    encoded(picture(12, 9), "PNG"),
    encoded(picture(12, 9).quantize(16), "PNG"),
    encoded(Image.new("I;16", (12, 9), 999), "PNG"),
    encoded(picture(12, 9), "PNG", save_all=True, append_images=[Image.new("RGB", (12, 9))]),
    encoded(picture(12, 9), "JPEG"),
    encoded(picture(12, 9), "JPEG", progressive=True, exif=Image.Exif()),
    encoded(picture(12, 9).convert("CMYK"), "JPEG"),
    encoded(picture(12, 9), "WEBP"),
    encoded(picture(12, 9), "WEBP", lossless=True, save_all=True, append_images=[Image.new("RGB", (12, 9))]),
    encoded(picture(12, 9), "BMP"),
    encoded(picture(12, 9).convert("P"), "BMP"),
    encoded(picture(12, 9), "GIF", save_all=True, append_images=[Image.new("RGB", (12, 9))]),
    encoded(picture(12, 9), "TIFF"),
    encoded(picture(12, 9), "TIFF", compression="tiff_lzw"),
    encoded(picture(12, 9), "TIFF", compression="jpeg"),
    encoded(Image.new("F", (12, 9), 0.5), "TIFF"),
]
PREFIXES = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x40\0\0\0WEBP", b"BM", b"GIF89a", b"II*\0", b"MM\0*", b""]


@st.composite
def mutated_files(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data) - 1))
        length = draw(st.integers(0, 4))
        data[at : at + length] = draw(st.binary(max_size=6))
        if not data:
            break
    return bytes(data)


def decodes_or_is_refused(data: bytes) -> None:
    try:
        array = read_image(data, FITTING, max_pixels=100_000)
    except ImageError as error:
        refused = error
    else:
        assert array.dtype == np.uint8
        assert array.shape == (32, 32, 3)
        return
    assert refused.reason.isprintable()
    assert refused.status in (413, 415, 422)


@given(st.sampled_from(PREFIXES), st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_random_bytes_raise_nothing_else(prefix: bytes, tail: bytes) -> None:
    decodes_or_is_refused(prefix + tail)


@given(mutated_files())
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_mutated_files_raise_nothing_else(data: bytes) -> None:
    decodes_or_is_refused(data)
