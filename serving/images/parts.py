"""Parts of an image file: those its reader needs, so that no file's metadata costs memory or time.

Pillow walks the parts of a file in Python and keeps what they hold, unpacked and joined, before the size of the image
is known. So what neither the pixels nor the orientation need is left out first: colour profiles, texts, notes. The
orientation may be in EXIF or XMP: the first of each stays, of EXIF the first MAX_EXIF_BYTES, where the orientation is
among the first entries. Files of endless parts are refused. The walks see the parts that Pillow sees, in hostile files
too.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Set

# Each scan of a progressive JPEG may touch every pixel in a few bytes; encoders make about ten.
MAX_JPEG_SCANS = 100
MAX_JPEG_JUNK = 65_536
# Bytes of quantisation tables, which Pillow reads in Python: a file has four at a time, of 129 bytes at most.
MAX_JPEG_TABLE_BYTES = 65_536
# Segments of a JPEG, chunks of a PNG or WebP, blocks of a GIF before its image, values in the first directory of a TIFF
# (of which every strip or tile has two): encoders make some thousands at most.
MAX_PARTS = 50_000
# As much as fits into the one segment that a JPEG has for it. Numbers in it become 50 times as large in Python.
MAX_EXIF_BYTES = 65_536
MAX_XMP_BYTES = 262_144

_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_JPEG_END, _JPEG_SCAN, _JPEG_TABLES, _JPEG_APP1 = 0xD9, 0xDA, 0xDB, 0xE1
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Huffman and arithmetic tables, quantisation, lines, restart interval; JFIF and Adobe, which say what the colours are.
_JPEG_NEEDED = _JPEG_FRAMES | {_JPEG_TABLES, 0xC4, 0xCC, 0xDC, 0xDD, 0xE0, 0xEE}
_JPEG_COMMENT, _JPEG_APPLICATION = 0xFE, frozenset(range(0xE0, 0xF0))
_JPEG_ORIENTATIONS = (b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0")

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_NAME = re.compile(rb"\w{4}")
_PNG_CHUNK = struct.Struct(">I4s")  # the length of its body, and its name; the body follows, and a checksum of 4 bytes
# What most PNGs are of; one of more chunks is looked at more closely.
_PNG_BARE = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT"))
_PNG_BARE_CHUNKS = 100
# Beside the critical chunks, whose names begin with a capital: transparency and what an animation's first image is.
_PNG_NEEDED = frozenset((b"tRNS", b"acTL", b"fcTL", b"fdAT"))
_PNG_TEXTS = frozenset((b"tEXt", b"zTXt", b"iTXt"))
_PNG_ORIENTATIONS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")

_WEBP_NEEDED = frozenset((b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"))

_GIF_EXTENSION, _GIF_IMAGE, _GIF_END = b"!,;"
_GIF_COMMENT, _GIF_APPLICATION = b"\xfe", b"\xff"

# Bytes of a value by its type; bytes, texts and "undefined" are kept as they are, as one value.
_TIFF_SIZES = {3: 2, 4: 4, 5: 8, 6: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}


def needed_parts(kind: str, data: bytes) -> bytes:
    """Return a file of ``kind`` (PNG, JPEG, ...) without the metadata that nothing needs; itself where it has none.

    Raises ValueError where it has too many parts.
    """
    if kind == "JPEG":
        return _of_jpeg(data)
    if kind == "PNG":
        return _of_png(data)
    if kind == "WebP":
        return _of_webp(data)
    if kind == "GIF":
        _check_gif(data)
    elif kind == "TIFF":
        _check_tiff(data)
    return data


def is_png_of(names: Set[bytes], data: bytes, *, most: int) -> bool:
    """Say whether a PNG has chunks of these names alone up to its end, and no more than so many."""
    position, last = len(PNG_SIGNATURE), len(data) - _PNG_CHUNK.size
    for _ in range(most):
        if position > last:
            return False
        length, name = _PNG_CHUNK.unpack_from(data, position)
        if name == b"IEND":
            return True
        if name not in names:
            return False
        position += 12 + length
    return False


def _of_jpeg(data: bytes) -> bytes:
    view, found = memoryview(data), set()
    kept = [view[:2]]
    frames, segments, junk, tables, position = 0, 0, 0, 0, 2
    while marker := _JPEG_MARKER.search(data, position):
        code, start = marker[1][0], marker.start()
        junk += start - position
        segments += 1
        if code == _JPEG_SCAN:
            break
        if code not in _JPEG_NEEDED and code not in _JPEG_APPLICATION and code != _JPEG_COMMENT:
            raise ValueError(f"marker {code:02X} before the first scan")
        body = start + 4
        position = max(body, start + 2 + int.from_bytes(data[start + 2 : body], "big"))
        frames += code in _JPEG_FRAMES
        tables += position - start if code == _JPEG_TABLES else 0
        if segments > MAX_PARTS or junk > MAX_JPEG_JUNK or frames > 1 or tables > MAX_JPEG_TABLE_BYTES:
            raise _too_many_of_jpeg()
        if code == _JPEG_APP1:
            prefix = next((prefix for prefix in _JPEG_ORIENTATIONS if data.startswith(prefix, body)), None)
            is_needed = prefix is not None and prefix not in found
            found.add(prefix)
        else:
            is_needed = code in _JPEG_NEEDED
        if is_needed:
            kept.append(view[start:position])
    if marker is None:
        return b"".join(kept)
    _check_jpeg_scans(data, marker.start(), segments)
    if sum(map(len, kept)) == marker.start():
        return data
    return b"".join([*kept, view[marker.start() :]])


def _check_jpeg_scans(data: bytes, position: int, segments: int) -> None:
    scans = 0
    while (marker := _JPEG_MARKER.search(data, position)) and marker[1][0] != _JPEG_END:
        scans += marker[1][0] == _JPEG_SCAN
        segments += 1
        if scans > MAX_JPEG_SCANS or segments > MAX_PARTS:
            raise _too_many_of_jpeg()
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")


def _too_many_of_jpeg() -> ValueError:
    return ValueError(
        f"more than {MAX_JPEG_SCANS} scans, {MAX_PARTS} segments, one frame, {MAX_JPEG_JUNK} stray bytes or "
        f"{MAX_JPEG_TABLE_BYTES} bytes of quantisation tables"
    )


def _of_png(data: bytes) -> bytes:
    return data if is_png_of(_PNG_BARE, data, most=_PNG_BARE_CHUNKS) else _with_needed_chunks(data)


def _with_needed_chunks(data: bytes) -> bytes:
    view, found, chunks, position = memoryview(data), set(), 0, 8
    kept = [view[:8]]
    while position < len(data):
        length, name = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        body, start = position + 8, position
        position = body + length + 4
        chunks += 1
        if chunks > MAX_PARTS:
            raise ValueError(f"more than {MAX_PARTS} chunks")
        if name == b"IEND" or not _PNG_NAME.match(name):  # Pillow says what is broken
            kept.append(view[start:])
            break
        if name in _PNG_TEXTS:
            prefix = next((prefix for prefix in _PNG_ORIENTATIONS if data.startswith(prefix, body)), None)
            if prefix is not None and prefix not in found and length <= MAX_XMP_BYTES:
                found.add(prefix)
                kept.append(view[start:position])
        elif name == b"eXIf" and name not in found:
            found.add(name)
            if length > MAX_EXIF_BYTES:
                kept.append(memoryview(_png_exif(data[body : body + MAX_EXIF_BYTES])))
            else:
                kept.append(view[start:position])
        elif name in _PNG_NEEDED or not name[0] & 0x20:
            kept.append(view[start:position])
    return data if sum(map(len, kept)) == len(data) else b"".join(kept)


def _png_exif(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))


def _of_webp(data: bytes) -> bytes:
    # A chunk is a name of four bytes, its length in four, a body, a byte more where that is odd.
    stated = int.from_bytes(data[4:8], "little") + 8
    end = min(len(data), stated)
    view, found, chunks, position = memoryview(data), set(), 0, 12
    kept: list[memoryview] = []
    while position < end:
        name, length = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        body, start = position + 8, position
        position = min(body + length + length % 2, end)
        chunks += 1
        if chunks > MAX_PARTS:
            raise ValueError(f"more than {MAX_PARTS} chunks")
        if name in _WEBP_NEEDED or body + length > end:  # of one cut short, its reader says so
            kept.append(view[start:position])
        elif name in (b"EXIF", b"XMP ") and name not in found:
            found.add(name)
            if name == b"EXIF" and position - body > MAX_EXIF_BYTES:
                exif = name + struct.pack("<I", MAX_EXIF_BYTES) + data[body : body + MAX_EXIF_BYTES]
                kept.append(memoryview(exif))
            elif position - body <= MAX_XMP_BYTES:
                kept.append(view[start:position])
    size = sum(map(len, kept))
    if size == end - 12:
        return data
    # A file cut short stays one: what its header counts too much, the new one does.
    return data[:4] + struct.pack("<I", size + 4 + stated - end) + data[8:12] + b"".join(kept)


def _check_gif(data: bytes) -> None:
    for parts, _ in enumerate(_gif_parts(data)):
        if parts == MAX_PARTS:
            raise ValueError(f"more than {MAX_PARTS} blocks or stray bytes before its image")


def _gif_parts(data: bytes) -> Iterator[int]:
    """Yield where each block and stray byte before the first image begins."""
    position = 13 + (3 << (data[10] & 7) + 1 if len(data) > 10 and data[10] & 128 else 0)
    while position < len(data) and data[position] not in (_GIF_IMAGE, _GIF_END):
        if data[position] != _GIF_EXTENSION:
            yield position
            position += 1
            continue
        kind, first = data[position + 1 : position + 2], data[position + 2 : position + 14]
        position += 2
        # An empty block ends an extension; but after so many of the first, Pillow reads on whatever their size.
        is_loop = kind == _GIF_APPLICATION and first[1:] == b"NETSCAPE2.0" and first[0] >= 11
        unending = 0 if kind == _GIF_COMMENT else 2 if is_loop else 1
        size = -1
        while size != 0 or unending >= 0:
            size = data[position] if position < len(data) else 0
            yield position
            position += 1 + size
            unending -= 1


def _check_tiff(data: bytes) -> None:
    """Refuse a first directory of endless values; those that are not in the file are not counted: nobody reads them."""
    order, big = "<" if data.startswith(b"II") else ">", data[2:3] == b"+"
    entry = struct.Struct(f"{order}HHQ8x" if big else f"{order}HHI4x")
    (start,) = _unpacked(f"{order}Q", data, 8) if big else _unpacked(f"{order}I", data, 4)
    (entries,) = _unpacked(f"{order}Q" if big else f"{order}H", data, start)
    first = start + (8 if big else 2)
    entries = min(entries, max(0, len(data) - first) // entry.size)
    values = entries
    if entries <= MAX_PARTS:
        for position in range(first, first + entries * entry.size, entry.size):
            _, kind, count = entry.unpack_from(data, position)
            if kind in _TIFF_SIZES and count * _TIFF_SIZES[kind] <= len(data):
                values += count
    if values > MAX_PARTS:
        raise ValueError(f"more than {MAX_PARTS} values, strips and tiles among them, in its first directory")


def _unpacked(form: str, data: bytes, position: int) -> tuple[int]:
    try:
        return struct.unpack_from(form, data, position)
    except (struct.error, OverflowError):
        return (0,)
