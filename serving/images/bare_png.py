"""Bare PNG: an RGB picture in the fewest chunks that a PNG can have, as most small ones are; its pixels alone.

Pillow's reader walks the chunks of a file in Python, and of a picture of 32 x 32 that takes a quarter of decoding. Here
Pillow only unpacks the pixels. Whatever is not exactly so is left to the reader: it knows more, and says what is amiss.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from PIL import Image

from serving.images.parts import PNG_SIGNATURE

_HEAD = struct.Struct(">8sI4sIIBBBBBII4s")  # up to the body of the second chunk
_IHDR = slice(12, 29)  # its name and body, of which its checksum is made
# Eight bits, red green blue, the one compression and filter method there are, not interlaced.
_PLAIN = (8, 2, 0, 0, 0)
# Pillow's reader gives its decoder so many bytes in one call, as is done here.
_MAX_COMPRESSED = 65_536


@dataclass(frozen=True)
class BarePng:
    """``size``: width and height in pixels. ``compressed``: the body of the one chunk that holds the pixels."""

    size: tuple[int, int]
    compressed: bytes

    def unpack(self) -> Image.Image:
        """Return the pixels as an RGB image. Raises ValueError where the chunk holds none or too few."""
        return Image.frombytes("RGB", self.size, self.compressed, "zip", "RGB")


def bare_png(data: bytes) -> BarePng | None:
    """Return what a PNG of a header, one chunk of pixels and an end holds; None for any other file."""
    if len(data) < _HEAD.size:
        return None
    signature, length, name, width, height, *kind, checksum, size, body_name = _HEAD.unpack_from(data)
    if (signature, length, name, body_name) != (PNG_SIGNATURE, 13, b"IHDR", b"IDAT") or tuple(kind) != _PLAIN:
        return None
    end = _HEAD.size + size
    is_whole = size <= _MAX_COMPRESSED and data[end + 8 : end + 12] == b"IEND"
    if not is_whole or not width or not height or checksum != zlib.crc32(data[_IHDR]):
        return None
    return BarePng((width, height), data[_HEAD.size : end])
