"""Bare PNGs come out as Pillow's reader has them, damaged ones too; what is not bare is left to that reader."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from serving.images.bare_png import BarePng, bare_png
from serving.images.image_file import decode_image
from tests.pictures import encoded, png_chunk, refusal

HEAD, TAIL = 41, 16  # bytes before and after the pixels


def noisy(width: int, height: int, seed: int, colours: int = 256) -> Image.Image:
    """Few colours pack well, many make the encoder choose among its filters."""
    values = np.random.default_rng(seed).integers(0, colours, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(np.cumsum(values, axis=1, dtype=np.uint8))


def by_pillow(data: bytes) -> bytes | None:
    """The pixels that Pillow's reader gives, None where it refuses."""
    try:
        with PngImageFile(io.BytesIO(data)) as image:
            return image.convert("RGB").tobytes()
    except Exception:
        return None


def unpacked(bare: BarePng) -> bytes | None:
    try:
        return bare.unpack().tobytes()
    except ValueError:
        return None


@settings(deadline=None)
@given(width=st.integers(1, 80), height=st.integers(1, 80), seed=st.integers(0, 99), colours=st.sampled_from([2, 256]))
def test_the_pixels_are_the_picture(width: int, height: int, seed: int, colours: int) -> None:
    image = noisy(width, height, seed, colours)
    bare = bare_png(encoded(image))
    assert bare is not None
    assert bare.size == (width, height)
    assert bare.unpack().tobytes() == image.tobytes() == decode_image(encoded(image)).tobytes()


@settings(deadline=None, max_examples=400)
@given(
    seed=st.integers(0, 9),
    place=st.integers(0, 10_000),
    change=st.integers(1, 255),
    tail=st.integers(0, 40) | st.none(),
)
def test_a_damaged_file_gives_what_pillows_reader_gives(seed: int, place: int, change: int, tail: int | None) -> None:
    data = bytearray(encoded(noisy(20, 11, seed)))
    data[place % len(data)] ^= change
    if tail is not None:
        data = data[: len(data) - tail]
    bare = bare_png(bytes(data))
    if bare is not None:
        assert unpacked(bare) == by_pillow(bytes(data))


@pytest.mark.parametrize("kept", [0, 1, 2, 10, 100, 300])
def test_too_few_pixels_are_refused_or_filled_as_pillow_does(kept: int) -> None:
    image = noisy(20, 11, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in np.asarray(image))
    whole = zlib.compress(rows)
    for body in (whole[:kept], zlib.compress(rows[:kept])):  # the stream cut off, and one that ends too soon
        data = encoded(image)[: HEAD - 8] + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
        bare = bare_png(data)
        assert bare is not None
        assert unpacked(bare) == by_pillow(data)


def test_a_refusal_says_what_is_wrong() -> None:
    data = encoded(noisy(20, 11, 0))
    cut = data[: HEAD - 8] + png_chunk(b"IDAT", data[HEAD : HEAD + 50]) + png_chunk(b"IEND", b"")
    error = refusal(cut)
    assert (error.code, error.status) == ("undecodable_image", 422)
    assert error.reason == "this PNG file will not decode: not enough image data"


def header(width: int = 20, height: int = 11, *kind: int) -> bytes:
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, *(kind or (8, 2, 0, 0, 0))))


WHOLE = encoded(noisy(20, 11, 0))
PIXELS, END = WHOLE[33:-12], WHOLE[-12:]


def test_the_parts_of_these_tests_make_a_bare_png() -> None:
    assert WHOLE[:8] + header() + PIXELS + END == WHOLE
    assert bare_png(WHOLE) is not None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        WHOLE[:40],
        b"\x88" + WHOLE[1:],
        WHOLE[:8] + header(0) + PIXELS + END,
        WHOLE[:8] + header(20, 0) + PIXELS + END,
        WHOLE[:8] + header(20, 11, 16, 2, 0, 0, 0) + PIXELS + END,
        WHOLE[:8] + header(20, 11, 8, 6, 0, 0, 0) + PIXELS + END,
        WHOLE[:8] + header(20, 11, 8, 2, 0, 0, 1) + PIXELS + END,
        WHOLE[:32] + bytes([WHOLE[32] ^ 1]) + PIXELS + END,
        WHOLE[:33] + png_chunk(b"tRNS", bytes(6)) + PIXELS + END,
        WHOLE[:33] + PIXELS + png_chunk(b"IDAT", b"") + END,
        WHOLE[:33] + PIXELS + png_chunk(b"eXIf", b"MM\0*") + END,
        WHOLE[:33] + PIXELS,
        encoded(Image.effect_noise((300, 300), 90).convert("RGB"), "PNG"),
    ],
    ids=[
        "nothing", "cut short", "signature", "no width", "no height", "16 bits", "alpha", "interlaced", "checksum",
        "transparent colour", "two chunks of pixels", "orientation", "no end", "large",
    ],
)  # fmt: skip
def test_what_is_not_bare_is_left_to_the_reader(data: bytes) -> None:
    assert bare_png(data) is None
