"""Mutations: ways to damage bytes that know nothing of them, and ways that know an image file's parts.

All draw from the ``random.Random`` they are given, and from nothing else: a seed gives the same files everywhere.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random

MAX_BYTES = 200_000
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Where length fields, sizes and counts go wrong.
_NUMBERS = (0, 1, 2, 3, 7, 8, 16, 255, 256, 4096, 32767, 32768, 65535, 65536, 2**24 - 1, 2**31 - 1, 2**31, 2**32 - 1)
_FORMATS = ("<H", ">H", "<I", ">I")
_XMP = b'<x:xmpmeta tiff:Orientation="6"/>'
_GIF_BLOCK = re.compile(rb"(?=\x21[\xf9\xff\xfe\x01]|\x2c)")

Mutation = Callable[[Random, bytes], bytes]


def mutated(random: Random, data: bytes, others: Sequence[bytes], *, most: int = 6) -> bytes:
    """Return ``data`` after one to ``most`` mutations; ``others`` are files to splice in parts of."""
    for _ in range(random.randint(1, most)):
        kind = random.randrange(10)
        if kind < 4:
            data = random.choice(_BLIND)(random, data)
        elif kind < 8:
            data = of_parts(random, data, random.choice(others))
        elif kind < 9:
            data = spliced(random, data, random.choice(others))
        else:
            data = repaired(data)
        data = data[:MAX_BYTES]
    return repaired(data) if random.random() < 0.5 else data


def bits_flipped(random: Random, data: bytes) -> bytes:
    """Flip one to eight bits."""
    damaged = bytearray(data)
    for _ in range(random.randint(1, 8)) if damaged else ():
        damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
    return bytes(damaged)


def number_set(random: Random, data: bytes) -> bytes:
    """Put a number at the edge of its type where there may be a length, a size or a count; often near the front."""
    form = random.choice(_FORMATS)
    size = struct.calcsize(form)
    if len(data) < size:
        return data
    last = len(data) - size
    at = random.randint(0, min(last, 200) if random.random() < 0.7 else last)
    if random.random() < 0.3:
        value = struct.unpack_from(form, data, at)[0] + random.choice((-1, 1, 8, -8))
    else:
        value = random.choice(_NUMBERS)
    return data[:at] + struct.pack(form, value % 256**size) + data[at + size :]


def cut(random: Random, data: bytes) -> bytes:
    """Keep the front only."""
    return data[: random.randint(0, len(data))]


def bytes_removed(random: Random, data: bytes) -> bytes:
    """Take up to 20 bytes out."""
    at = random.randint(0, len(data))
    return data[:at] + data[at + random.randint(1, 20) :]


def bytes_inserted(random: Random, data: bytes) -> bytes:
    """Put up to 20 random bytes in, or one many times."""
    at = random.randint(0, len(data))
    filler = random.randbytes(random.randint(1, 20)) if random.random() < 0.8 else random.randbytes(1) * 5000
    return data[:at] + filler + data[at:]


def range_repeated(random: Random, data: bytes) -> bytes:
    """Write a stretch of the bytes several times."""
    at = random.randint(0, len(data))
    length = random.randint(1, 64)
    return data[:at] + data[at : at + length] * random.choice((2, 3, 50)) + data[at + length :]


def spliced(random: Random, data: bytes, other: bytes) -> bytes:
    """Go over from one file to another within them."""
    return data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]


_BLIND: tuple[Mutation, ...] = (
    bits_flipped,
    number_set,
    number_set,
    cut,
    bytes_removed,
    bytes_inserted,
    range_repeated,
)


def of_parts(random: Random, data: bytes, other: bytes) -> bytes:
    """Drop, repeat, move, damage or exchange whole parts: chunks, segments, blocks, directory entries."""
    parts = parts_of(data)
    at, to = random.randrange(len(parts)), random.randrange(len(parts))
    kind = random.randrange(7)
    if kind == 0:
        del parts[at]
    elif kind == 1:
        parts[at:at] = [parts[at]] * random.choice((1, 2, 100))
    elif kind == 2:
        parts[at], parts[to] = parts[to], parts[at]
    elif kind == 3:
        parts.insert(at, random.choice(parts_of(other)))
    elif kind == 4:
        parts[at] = _damaged_stream(random, parts[at])
    elif kind == 5:
        parts.insert(min(at + 1, len(parts)), metadata(random, data))
    else:
        parts[at] = random.choice(_BLIND)(random, parts[at])
    return b"".join(parts)


def metadata(random: Random, data: bytes) -> bytes:
    """Make a part of metadata as the format of ``data`` has them, or an entry of its directory; of odd contents."""
    if data.startswith(b"II*\0"):
        return _entry(random)
    body = random.choice((_exif(random), _XMP + bytes(random.choice((0, 70_000)))))
    if data.startswith(_PNG_SIGNATURE):
        texts = (b"XML:com.adobe.xmp\0\1\0\0\0", b"Raw profile type exif\0\0", b"words\0\0")
        text = random.choice(texts) + zlib.compress(random.choice((body, body.hex().encode(), "\U0001f600".encode())))
        kind = random.choice((b"eXIf", b"iTXt", b"zTXt", b"iCCP", b"prVt"))
        return _with_checksum(bytes(4) + kind + (body if kind in (b"eXIf", b"prVt") else text) + bytes(4))
    if data.startswith(b"RIFF"):
        return random.choice((b"EXIF", b"XMP ", b"ICCP", b"none")) + struct.pack("<I", len(body)) + body
    if data.startswith(b"\xff\xd8"):
        kind = random.choice((b"\xe0", b"\xe1", b"\xe1", b"\xe2", b"\xed", b"\xee", b"\xf0", b"\xfe"))
        prefix = random.choice((b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"JFIF\0", b"Adobe", b""))
        body = (prefix + body)[:65_533]
        return (b"\xff" + kind + struct.pack(">H", 2 + len(body)) + body) * random.choice((1, 2, 200))
    blocks = (b"\xff" + bytes(255), b"\1a" * 3000, b"\x0bNETSCAPE2.0", b"\0", b"")
    return b"!" + random.choice((b"\xfe", b"\xff", b"\xf9", b"\1")) + random.choice(blocks) + b"\0"


def _exif(random: Random) -> bytes:
    entries = [_entry(random) for _ in range(random.randint(0, 4))]
    filler = random.randbytes(100) * random.choice((0, 1, 700))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4) + filler


def _entry(random: Random) -> bytes:
    """Make an entry of a directory: a tag that Pillow reads, of a type, of so many values, which are at an offset."""
    tag = random.choice((258, 259, 0x0112, 0x011A, 0x0128, 273, 278, 700, 0x8769, 0x8825))
    return struct.pack("<HHII", tag, random.randint(0, 17), random.choice((*_NUMBERS, 9_000)), random.choice(_NUMBERS))


def parts_of(data: bytes) -> list[bytes]:
    """Split a file into the parts of its format, at least one; joined they are the file again."""
    if data.startswith(_PNG_SIGNATURE):
        return _counted(data, 8, lambda at: 12 + int.from_bytes(data[at : at + 4], "big"))
    if data.startswith(b"RIFF"):
        return _counted(data, 12, lambda at: 8 + (int.from_bytes(data[at + 4 : at + 8], "little") + 1) // 2 * 2)
    if data.startswith(b"\xff\xd8"):
        return _counted(data, 2, lambda at: _jpeg_segment(data, at))
    if data.startswith(b"II*\0"):
        start = int.from_bytes(data[4:8], "little") + 2
        return _counted(data, min(start, len(data)), lambda _: 12)
    if data.startswith(b"BM"):
        return _counted(data, 2, lambda at: 4 if at < 54 else len(data))
    if data.startswith(b"GIF"):
        return [part for part in _GIF_BLOCK.split(data) if part] or [data]
    return _counted(data, 0, lambda _: 64)


def repaired(data: bytes) -> bytes:
    """Put right what a reader checks first: the checksums of a PNG's chunks, the length of a WebP file."""
    if data.startswith(_PNG_SIGNATURE):
        parts = parts_of(data)
        return parts[0] + b"".join(_with_checksum(part) for part in parts[1:])
    if data.startswith(b"RIFF"):
        return data[:4] + struct.pack("<I", max(len(data) - 8, 0)) + data[8:]
    return data


def _counted(data: bytes, start: int, length: Callable[[int], int]) -> list[bytes]:
    parts, at = [data[:start]] if start else [], start
    while at < len(data) and len(parts) < 1000:
        end = at + max(length(at), 1)
        parts.append(data[at:end])
        at = end
    if at < len(data):
        parts.append(data[at:])
    return parts or [data]


def _jpeg_segment(data: bytes, at: int) -> int:
    if data[at : at + 2] == b"\xff\xda":  # a scan goes on to the next marker
        following = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]").search(data, at + 2)
        return following.start() - at if following else len(data)
    return 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def _with_checksum(chunk: bytes) -> bytes:
    if len(chunk) < 12:
        return chunk
    body = chunk[8:-4]
    checksum = struct.pack(">I", zlib.crc32(chunk[4:8] + body))
    return struct.pack(">I", len(body)) + chunk[4:8] + body + checksum


def _damaged_stream(random: Random, part: bytes) -> bytes:
    """Damage what a PNG chunk holds compressed, not the compressed bytes; other parts as they are."""
    if part[4:8] not in (b"IDAT", b"zTXt", b"iCCP"):
        return part
    start = 8 if part[4:8] == b"IDAT" else part.find(b"\0", 8) + 2
    try:
        plain = zlib.decompress(part[start:-4])
    except zlib.error:
        return part
    packed = zlib.compress(random.choice(_BLIND)(random, plain))
    return struct.pack(">I", start - 8 + len(packed)) + part[4:start] + packed + part[-4:]
