from __future__ import annotations

import struct
import time
import zlib

import pytest
from PIL import Image, PngImagePlugin

from serving.images.image_file import decode_image
from serving.images.quick_files import is_quick
from serving.requests.decoding import SMALL_BYTES
from tests.pictures import encoded, picture, png_chunk, raw_png

SIZE = (32, 32)


def exif_of_many_entries() -> Image.Exif:
    exif = Image.Exif()
    for tag in range(40_000, 40_900):
        exif[tag] = 7
    return exif


def text(**options: bool) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "words", **options)
    return info


QUICK = {
    "png": encoded(picture(*SIZE)),
    "palette png": encoded(picture(*SIZE).quantize(16), transparency=3),
    "png with a plain text": encoded(picture(*SIZE), pnginfo=text(), dpi=(72, 72)),
    "jpeg": encoded(picture(*SIZE), "JPEG", comment=b"words", dpi=(72, 72)),
    "progressive jpeg": encoded(picture(*SIZE), "JPEG", progressive=True),
    "jpeg with restarts": encoded(picture(*SIZE), "JPEG", restart_marker_blocks=1),
}
# Fourteen texts of a megabyte each.
UNPACKED = b"k\0\0" + zlib.compress(bytes(1_000_000), 9)
NOT_QUICK = {
    "png with packed texts": raw_png(1, 1, 8, 0, b"\0\7", png_chunk(b"zTXt", UNPACKED) * 14),
    "png with a packed unicode text": raw_png(1, 1, 8, 0, b"\0\7", png_chunk(b"iTXt", b"k\0\1\0\0\0" + UNPACKED[3:])),
    "png with a profile": raw_png(1, 1, 8, 0, b"\0\7", png_chunk(b"iCCP", UNPACKED)),
    "png of many chunks": raw_png(1, 1, 8, 0, b"\0\7", png_chunk(b"tEXt", b"k\0") * 1000),
    "png with exif": encoded(picture(*SIZE), exif=exif_of_many_entries()),
    "cut off png": QUICK["png"][:-12],
    "jpeg with exif": encoded(picture(*SIZE), "JPEG", exif=exif_of_many_entries()),
    "jpeg of many segments": b"\xff\xd8" + b"\xff\xfe\0\2" * 3000 + QUICK["jpeg"][2:],
    "jpeg with junk": b"\xff\xd8" + b"\0" * 12_000 + QUICK["jpeg"][2:],
    "jpeg of many scans": QUICK["progressive jpeg"][:-2]
    + QUICK["progressive jpeg"][QUICK["progressive jpeg"].rfind(b"\xff\xda") : -2] * 17
    + b"\xff\xd9",
    "cut off jpeg": QUICK["jpeg"][:-2],
    "gif": encoded(picture(*SIZE), "GIF"),
    "tiff": encoded(picture(*SIZE), "TIFF"),
    "text": b"hello",
    "nothing": b"",
    "signatures alone": b"\xff\xd8",
    "a chunk without end": b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 2**32 - 1) + b"IHDR",
}


@pytest.mark.parametrize("kind", QUICK)
def test_plain_files_are_quick(kind: str) -> None:
    assert is_quick(QUICK[kind])
    started = time.thread_time()
    for _ in range(10):
        decode_image(QUICK[kind])
    assert (time.thread_time() - started) / 10 < 0.005  # some tenths of a millisecond on an idle machine


@pytest.mark.parametrize("kind", NOT_QUICK)
def test_files_that_may_be_slow_are_not(kind: str) -> None:
    assert len(NOT_QUICK[kind]) < SMALL_BYTES
    assert not is_quick(NOT_QUICK[kind])
