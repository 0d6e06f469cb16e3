"""What the soak sends: requests of each kind, with what must come back.

Good ones are answered 200 and right; refused ones with one of the statuses expected, in the one shape of errors; broken
ones by nothing in particular. None is ever answered 500.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from benchmarks.multipart import CONTENT_TYPE, form
from benchmarks.service.pictures import MEGAPIXEL, jpeg, png, textured
from benchmarks.soak.expected import Expectation, Graphs

Kind = Literal["good", "large", "bad", "huge", "slow", "aborted"]
KINDS: tuple[Kind, ...] = ("good", "large", "bad", "huge", "slow", "aborted")

CLASSIFY, SCORE = "/classify", "/anomaly_score"
MANY_IMAGES = 20
# A phone's photo; almost as many pixels as an image may have by default; and what takes most work a pixel.
PHOTO, NEAR_THE_LIMIT, FLOATS = (4000, 3000), (5760, 4320), (3000, 2000)
# Above the service's default limits (docs/settings.md).
TOO_MANY_IMAGES = 65
TOO_LARGE_IMAGE = 21 * 1024 * 1024
TOO_LARGE_REQUEST = 66 * 1024 * 1024


# Name, address, images (None: a broken one), fields.
Case = tuple[str, str, list[bytes | None], list[tuple[str, str]]]


@dataclass(frozen=True)
class Script:
    """One request. ``expected``: what a 200 must hold, None where it is refused, with one of ``statuses``."""

    name: str
    path: str
    body: bytes
    expected: Expectation | None = None
    statuses: tuple[int, ...] = ()
    content_type: str | None = CONTENT_TYPE


def good_scripts(graphs: Graphs) -> list[Script]:
    """Return requests that must be answered 200: several formats, sizes and numbers of images, both addresses."""
    small = [png(textured(32, 32, seed)) for seed in range(4)]
    photo = textured(*MEGAPIXEL, seed=9)
    formats = [small[0], _encoded(photo, "WEBP"), _encoded(textured(48, 40, 5), "GIF"), jpeg(textured(200, 300, 6))]
    cases: list[Case] = [
        ("small", CLASSIFY, [small[0]], []),
        ("small", CLASSIFY, [small[1]], []),
        ("small", SCORE, [small[2]], []),
        ("small", SCORE, [small[3]], []),
        ("photo", CLASSIFY, [jpeg(photo)], [("top_k", "3")]),
        ("photo", SCORE, [jpeg(photo)], [("alpha", "0.01")]),
        ("four formats", SCORE, list(formats), [("views", "true")]),
        ("many", CLASSIFY, [small[index % 4] for index in range(MANY_IMAGES)], []),
        ("one bad among good", CLASSIFY, [small[0], None, small[1]], [("on_error", "report")]),
        ("one bad among good", SCORE, [None, small[2]], [("on_error", "report")]),
    ]
    return _scripts(graphs, cases)


def large_scripts(graphs: Graphs) -> list[Script]:
    """Return requests of large images that must be answered 200; it takes some seconds to make them."""
    view = textured(*MEGAPIXEL, seed=10)
    floats = np.floor(np.asarray(view.convert("L").resize(FLOATS), np.float32) / 16) / 16
    return _scripts(
        graphs,
        [
            ("12 megapixels", CLASSIFY, [jpeg(view.resize(PHOTO))], []),
            ("25 megapixels", CLASSIFY, [jpeg(view.resize(NEAR_THE_LIMIT))], []),
            ("float TIFF", SCORE, [_encoded(Image.fromarray(floats), "TIFF", compression="tiff_adobe_deflate")], []),
        ],
    )


def _scripts(graphs: Graphs, cases: Sequence[Case]) -> list[Script]:
    broken = png(textured(32, 32, 0))[:60]
    return [
        Script(
            f"{path} {name}",
            path,
            form([broken if image is None else image for image in images], fields),
            Expectation(graphs, images),
        )
        for name, path, images, fields in cases
    ]


def bad_scripts() -> list[Script]:
    """Return requests that must be refused with a status of 4xx."""
    good = png(textured(32, 32, 0))
    whole = form([good])
    return [
        Script("text as an image", CLASSIFY, form([b"hello"]), statuses=(415,)),
        Script("truncated PNG", SCORE, form([good[:-40]]), statuses=(422,)),
        Script("damaged JPEG", CLASSIFY, form([jpeg(textured(64, 64, 1))[:200] + b"\xff" * 500]), statuses=(422,)),
        Script("good before bad", CLASSIFY, form([good, b"\x89PNG\r\n\x1a\nnothing"]), statuses=(422,)),
        Script("no image", CLASSIFY, form([]), statuses=(400,)),
        Script("unknown field", CLASSIFY, form([good], [("picture", "1")]), statuses=(400,)),
        Script("unknown model", SCORE, form([good], [("model", "no-such")]), statuses=(404,)),
        Script("alpha of 2", SCORE, form([good], [("alpha", "2")]), statuses=(400,)),
        Script("JSON", CLASSIFY, b'{"images": []}', statuses=(415,), content_type="application/json"),
        Script("no Content-Type", CLASSIFY, whole, statuses=(415,), content_type=None),
        Script("body cut short", SCORE, whole[:-80], statuses=(400,)),
        Script("empty body", SCORE, b"", statuses=(400,)),
        Script("no boundary", CLASSIFY, whole, statuses=(415, 400), content_type="multipart/form-data"),
        Script("random bytes", CLASSIFY, bytes(range(256)) * 40, statuses=(400,)),
        Script("unknown address", "/nothing", whole, statuses=(404, 405)),
    ]


def huge_scripts() -> list[Script]:
    """Return requests above a limit, each with status 413: an image's bytes and pixels, images a request."""
    good = png(textured(32, 32, 0))
    return [
        Script("60000 x 60000 pixels", CLASSIFY, form([bomb(60_000, 60_000)]), statuses=(413,)),
        Script("an image of 21 MiB", CLASSIFY, form([good + bytes(TOO_LARGE_IMAGE)]), statuses=(413,)),
        Script("65 images", SCORE, form([good] * TOO_MANY_IMAGES), statuses=(413,)),
    ]


def bomb(width: int, height: int) -> bytes:
    """Return a PNG file of some hundred bytes that claims to be of that size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def pieces(data: bytes, count: int) -> Sequence[bytes]:
    """Cut data into about so many pieces."""
    size = max(1, len(data) // count)
    return [data[start : start + size] for start in range(0, len(data), size)]


def _encoded(image: Image.Image, kind: str, **options: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
