"""Quick files: which image files of a few kilobytes are certainly decoded in some tenths of a millisecond.

Few bytes can be slow to read: compressed texts and profiles that unpack to megabytes, thousands of segments, metadata
that is parsed entry by entry. So the parts known to be quick are listed, and a file of any other is not quick.
"""

from __future__ import annotations

import re

from serving.images.parts import PNG_SIGNATURE, is_png_of

# Of a PNG or a JPEG: encoders write about ten.
MAX_PARTS = 40
MAX_SCANS = 16

_PNG_CHUNKS = frozenset(
    (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"pHYs", b"tIME", b"tEXt")
)
_JPEG_SIGNATURE = b"\xff\xd8"
# Baseline and progressive frames, Huffman and quantisation tables, restart interval, JFIF header, comment.
_JPEG_SEGMENTS = frozenset((0xC0, 0xC1, 0xC2, 0xC4, 0xDB, 0xDD, 0xE0, 0xFE))
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9
_JPEG_AFTER_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def is_quick(data: bytes) -> bool:
    """Say whether a file is of parts that are quick to read; how many bytes and pixels it has is not judged here."""
    if data.startswith(PNG_SIGNATURE):
        return is_png_of(_PNG_CHUNKS, data, most=MAX_PARTS)
    return data.startswith(_JPEG_SIGNATURE) and _is_quick_jpeg(data)


def _is_quick_jpeg(data: bytes) -> bool:
    position, scans = len(_JPEG_SIGNATURE), 0
    for _ in range(MAX_PARTS):
        if len(data) < position + 2 or data[position] != 0xFF:
            return False
        kind = data[position + 1]
        if kind == _JPEG_END:
            return True
        if kind != _JPEG_SCAN and kind not in _JPEG_SEGMENTS:
            return False
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if kind == _JPEG_SCAN:
            scans += 1
            marker = _JPEG_AFTER_SCAN.search(data, position)
            if marker is None or scans > MAX_SCANS:
                return False
            position = marker.start()
    return False
