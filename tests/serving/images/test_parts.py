"""Metadata: files with much of it are read, none makes much memory or time of it, and endless parts are refused."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from PIL import Image, ImageOps, PngImagePlugin

from serving.images.image_file import ImageError, OpenedImage, decode_image
from serving.images.parts import MAX_EXIF_BYTES, MAX_PARTS, needed_parts
from tests.fuzz.images import seeds
from tests.pictures import encoded, picture, pixels, png_chunk, raw_png, refusal

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning:PIL")]

MUCH = 2_000_000
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
# Every byte another number, and none of those that Python keeps ready.
NUMBERS = bytes(range(128, 251)) * (MUCH // 123 + 1)


def exif(*tags: tuple[int, int, int], data: bytes = b"") -> bytes:
    """EXIF of (tag, type, count), their values all in ``data``; an orientation of 6 lies in its entry."""
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(
        struct.pack("<HHII", tag, kind, count, 6 if (tag, count) == (0x0112, 1) else start) for tag, kind, count in tags
    )
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


# A maker's note of MUCH bytes; the turned picture says that the orientation before it is read.
LARGE_EXIF = exif((0x0112, 3, 1), (0x927C, 7, MUCH), data=bytes(MUCH))


def segment(kind: int, body: bytes) -> bytes:
    return b"\xff" + bytes([kind]) + struct.pack(">H", 2 + len(body)) + body


def jpeg(*segments: bytes) -> bytes:
    """A JPEG of the picture, without JFIF's header and with these segments first."""
    whole = encoded(picture(), "JPEG")
    return whole[:2] + b"".join(segments) + whole[2 + 2 + int.from_bytes(whole[4:6], "big") :]


def exif_segments(whole: bytes) -> list[bytes]:
    return [segment(0xE1, b"Exif\0\0" + whole[start : start + 65_000]) for start in range(0, len(whole), 65_000)]


def png(*chunks: bytes) -> bytes:
    whole = encoded(picture())
    return whole[:33] + b"".join(chunks) + whole[33:]


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    whole = encoded(picture(), "WEBP", lossless=True, exif=b"Exif\0\0" + exif())
    added = b"".join(name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2) for name, body in chunks)
    data = whole[: whole.index(b"EXIF")] + added
    has_profile_exif_and_xmp = b"\x2c"
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:20] + has_profile_exif_and_xmp + data[21:]


def tiff(*tags: tuple[int, int, int, bytes]) -> bytes:
    """A grey TIFF of one pixel with (tag, type, count, values) besides or instead of its own."""
    own = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 1}
    entries = {tag: (4, 1, struct.pack("<I", value)) for tag, value in own.items()}
    entries |= {tag: (kind, count, values) for tag, kind, count, values in tags}
    start, directory, behind = 10 + 12 * len(entries) + 4, b"", b""
    for tag, (kind, count, values) in sorted(entries.items()):
        place = values.ljust(4, b"\0") if len(values) <= 4 else struct.pack("<I", start + len(behind))
        behind += values if len(values) > 4 else b""
        directory += struct.pack("<HHI", tag, kind, count) + place
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + behind


def tiff_of_directories() -> bytes:
    """A TIFF that points to one more directory, of EXIF, of GPS and of interoperability, of endless values."""
    pointers = [(tag, 4, 1, b"HERE") for tag in (0x8769, 0x8825, 0xA005)]
    within = len(tiff(*pointers))
    directory = struct.pack("<H", 1) + struct.pack("<HHII", 40_000, 5, MUCH // 8, within + 18) + bytes(4)
    return tiff(*pointers).replace(b"HERE", struct.pack("<I", within)) + directory + NUMBERS


def gif(extension: bytes) -> bytes:
    whole = encoded(Image.new("L", (16, 16), 7), "GIF")
    start = whole.index(b",")
    return whole[:start] + extension + whole[start:]


def with_texts() -> bytes:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("workflow", "words " * 100_000)
    texts.add_itxt("prompt", "words " * 100_000, zip=True)
    return encoded(picture(), pnginfo=texts, icc_profile=bytes(500_000), dpi=(72, 72))


PROFILE = b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes([number, 9]) + bytes(60_000)) for number in range(1, 10))
EXTENDED = segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(60_000)) * 30
HONEST: dict[str, tuple[bytes, bool]] = {
    "jpeg": (jpeg(PROFILE, EXTENDED, segment(0xFE, bytes(60_000)), segment(0xED, bytes(60_000))), False),
    "jpeg exif": (jpeg(*exif_segments(exif((0x0112, 3, 1)) + bytes(64_000)), PROFILE, EXTENDED), True),
    "jpeg exif of many segments": (jpeg(*exif_segments(LARGE_EXIF)), True),
    "jpeg xmp": (jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP.ljust(65_000)), EXTENDED), True),
    "png": (with_texts(), False),
    "png exif": (png(png_chunk(b"eXIf", LARGE_EXIF)), True),
    "png exif in hexadecimal": (
        png(
            png_chunk(
                b"zTXt",
                b"Raw profile type exif\0\0"
                + zlib.compress(b"\nexif\n   1\n" + (exif((0x0112, 3, 1)) + bytes(64_000)).hex().encode()),
            )
        ),
        True,
    ),
    "png xmp": (png(png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP.ljust(200_000))), True),
    "webp": (webp((b"ICCP", bytes(MUCH)), (b"abcd", bytes(MUCH)), (b"XMP ", bytes(MUCH))), False),
    "webp exif": (webp((b"EXIF", LARGE_EXIF), (b"none", b"odd")), True),
    "webp xmp": (webp((b"XMP ", XMP.ljust(200_001))), True),
}


@pytest.mark.parametrize("name", HONEST)
def test_files_with_much_metadata_are_read_and_turned(name: str) -> None:
    data, is_turned = HONEST[name]
    assert len(needed_parts(_kind(data), data)) < 300_000
    kind = {"JPEG": "JPEG", "PNG": "PNG", "WebP": "WEBP"}[_kind(data)]
    plain = pixels(decode_image(encoded(picture(), kind, **({"lossless": True} if kind == "WEBP" else {}))))
    expected = plain.transpose(1, 0, 2)[:, ::-1] if is_turned else plain
    assert (pixels(decode_image(data)) == expected).all()


def _kind(data: bytes) -> str:
    return {b"\x89": "PNG", b"\xff": "JPEG", b"R": "WebP", b"G": "GIF", b"I": "TIFF", b"B": "BMP"}[data[:1]]


def test_what_is_left_out_changes_no_pixel() -> None:
    for data in seeds():
        with Image.open(io.BytesIO(data)) as image, Image.open(io.BytesIO(needed_parts(_kind(data), data))) as needed:
            assert needed.mode == image.mode
            assert ImageOps.exif_transpose(needed).tobytes() == ImageOps.exif_transpose(image).tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_file_of_needed_parts_only_is_not_copied(kind: str) -> None:
    data = encoded(picture(), kind)
    assert needed_parts(_kind(data), data) is data


ASTRAL = zlib.compress(b"a" * 1_000_000 + "\U0001f600".encode())
GREEDY: dict[str, Callable[[], bytes]] = {
    "png exif": lambda: png(png_chunk(b"eXIf", exif((0x0112, 6, MUCH), data=NUMBERS))),
    "png texts": lambda: png(*(png_chunk(b"iTXt", b"%d\0\1\0\0\0" % number + ASTRAL) for number in range(60))),
    "jpeg exif": lambda: jpeg(*exif_segments(exif((0x0112, 6, MUCH), data=NUMBERS))),
    "jpeg resolution": lambda: jpeg(
        *exif_segments(exif((0x0128, 3, 1), (0x011A, 5, MUCH // 8 - 100), data=NUMBERS[:MUCH]))
    ),
    "jpeg frames": lambda: jpeg(segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 3) + b"\1\x11\0" * 20_000) * 40),
    "jpeg frames behind a marker without a length": lambda: jpeg(
        segment(0xF0, segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 3) + b"\1\x11\0" * 20_000)) * 40
    ),
    "jpeg that ends before it begins": lambda: jpeg(b"\xff\xd9", *exif_segments(LARGE_EXIF)),
    "webp exif": lambda: webp((b"EXIF", exif((0x0112, 6, MUCH), data=NUMBERS))),
    "tiff compression": lambda: tiff((259, 4, MUCH // 4, struct.pack("<I", 1) * (MUCH // 4))),
    "tiff resolution": lambda: tiff((282, 5, MUCH // 8, NUMBERS[: MUCH // 8 * 8])),
    "tiff strips": lambda: tiff((273, 4, MUCH // 4, struct.pack("<I", 8) * (MUCH // 4)), (278, 4, 1, bytes(4))),
    "tiff directories": tiff_of_directories,
    "gif comment": lambda: gif(b"!\xfe" + b"\1a" * (MUCH // 2) + b"\0"),
}


@pytest.mark.parametrize("name", GREEDY)
def test_metadata_takes_no_memory(name: str) -> None:
    data = GREEDY[name]()
    decode_image(encoded(picture(), "TIFF"))
    tracemalloc.start()
    try:
        decode_image(data)
    except ImageError as error:
        assert error.code == "undecodable_image"  # noqa: PT017
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Without these bounds 12 to 100 times the file, or 256 MB.
    assert peak < 3 * len(data) + 2**20


@pytest.mark.parametrize("name", ["tiff strips", "tiff resolution"])
def test_a_tiff_of_as_many_strips_as_it_may_have_is_opened_in_little_memory(name: str) -> None:
    count = MAX_PARTS - 100
    tag = (273, 4, count, struct.pack("<I", 8) * count) if name == "tiff strips" else (282, 5, count, bytes(8 * count))
    data = tiff(tag, (278, 4, 1, bytes(4)))
    tracemalloc.start()
    OpenedImage(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_a_tiff_of_many_strips_is_read() -> None:
    data = encoded(Image.new("L", (2, 5000), 7), "TIFF", tiffinfo={278: 1})
    assert decode_image(data).getpixel((1, 4999)) == (7, 7, 7)


SLOW: dict[str, Callable[[], bytes]] = {
    "jpeg of many exif segments": lambda: jpeg(segment(0xE1, b"Exif\0\0" + bytes(400)) * 40_000),
    "jpeg of many quantisation tables": lambda: jpeg(segment(0xDB, (b"\0" + bytes(range(1, 65))) * 1000) * 300),
    "gif of many blocks": lambda: gif(b"!\xff" + b"\1a" * 10_000_000 + b"\0"),
    "gif that reads on after an empty block": lambda: gif(b"!\1\0" + b"\1a" * 10_000_000 + b"\0"),
    "gif of stray bytes": lambda: gif(bytes(20_000_000)),
    "bigtiff of many entries": lambda: (
        b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 1_000_000) + struct.pack("<HHQQ", 1, 3, 1, 1) * 1_000_000
    ),
    "webp of many chunks": lambda: webp(*[(b"none", b"")] * 2_000_000),
}


@pytest.mark.parametrize("name", SLOW)
def test_many_parts_take_no_time(name: str) -> None:
    data = SLOW[name]()
    started = time.thread_time()
    try:
        decode_image(data)
    except ImageError as error:
        assert f"{MAX_PARTS} " in error.reason  # noqa: PT017
    assert time.thread_time() - started < 1


def test_a_jpeg_that_defines_its_tables_a_hundred_times_is_read() -> None:
    table = segment(0xDB, b"".join(bytes([number, *[16] * 64]) for number in range(4)))
    assert (pixels(decode_image(jpeg(table * 100))) == pixels(decode_image(jpeg()))).all()


def test_a_webp_cut_short_stays_one_without_its_metadata() -> None:
    data = webp((b"EXIF", LARGE_EXIF))
    assert decode_image(data).size == (30, 40)
    whole = pixels(decode_image(webp()))
    for end in range(40, data.index(b"EXIF") + 20, 7):
        try:
            assert (pixels(decode_image(data[:end])) == whole).all()
        except ImageError as error:
            assert error.code == "undecodable_image"  # noqa: PT017


def test_bytes_behind_the_end_do_not_count() -> None:
    for data in (encoded(picture()), encoded(picture(), "WEBP", lossless=True)):
        assert decode_image(data + bytes(2_000_000)).size == (40, 30)


def test_exif_is_cut_and_keeps_its_checksum() -> None:
    chunk = png_chunk(b"eXIf", LARGE_EXIF)
    needed = needed_parts("PNG", raw_png(1, 1, 8, 0, b"\0\7", chunk))
    assert png_chunk(b"eXIf", LARGE_EXIF[:MAX_EXIF_BYTES]) in needed


def test_a_tiff_whose_directory_is_nowhere_is_refused() -> None:
    for start in (0, 7, 2**31, 2**63, 2**64 - 1):
        assert refusal(b"II+\0\x08\0\0\0" + struct.pack("<Q", start)).code == "undecodable_image"
        assert refusal(b"MM\0*" + struct.pack(">I", start % 2**32)).code == "undecodable_image"
