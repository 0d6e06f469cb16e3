"""Images: from the bytes of a file to the array a graph takes. The one definition of fitting, fixed in the design.

Training folders, calibration and serving all come through here, so that a model never meets an image prepared otherwise
than those it learnt from. Nothing but ImageError is raised for what a file holds.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from io import BytesIO
from math import ceil, floor
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, TILELENGTH, TILEWIDTH, TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from serving.manifest import Fitting

DEFAULT_MAX_PIXELS = 50_000_000
# Pillow's own alarm, a process-wide setting, goes off above this; a higher limit of ours would be an empty promise.
MAX_PIXELS_LIMIT = 1024**3 // 4 // 3
# Each scan of a progressive JPEG may touch every pixel in a few bytes; encoders make about ten.
MAX_JPEG_SCANS = 100
MAX_JPEG_JUNK = 65_536
# Segments of a JPEG, chunks of a PNG: Pillow walks them in Python, and encoders make some thousands at most.
MAX_PARTS = 50_000
# A resized image keeps this many times its shorter side of the longer one, so that a 1 x 100000 strip stays small.
MAX_ASPECT = 8

ImageErrorCode = Literal["not_an_image", "image_too_large", "undecodable_image"]
_STATUS: dict[ImageErrorCode, int] = {"not_an_image": 415, "image_too_large": 413, "undecodable_image": 422}

# The formats taken, by their first bytes. Their readers are called directly: Image.open would try every format there is
# and warn, or not, by process-wide settings.
_FORMATS: list[tuple[str, re.Pattern[bytes], Callable[[BytesIO], ImageFile]]] = [
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), PngImageFile),
    ("JPEG", re.compile(rb"\xff\xd8\xff"), JpegImageFile),
    ("WebP", re.compile(rb"RIFF.{4}WEBP", re.DOTALL), WebPImageFile),
    ("BMP", re.compile(rb"BM"), BmpImageFile),
    ("GIF", re.compile(rb"GIF8[79]a"), GifImageFile),
    ("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImageFile),
]
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_JPEG_START, _JPEG_END, _JPEG_SCAN, _JPEG_TEMPORARY = 0xD8, 0xD9, 0xDA, 0x01

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(ValueError):
    """A file that gives no image: ``code`` for programs, ``reason`` for people, ``status`` for HTTP.

    ``not_an_image`` (415): the first bytes are of no format taken. ``image_too_large`` (413): too many pixels by its
    header. ``undecodable_image`` (422): damaged, truncated, or of a kind that cannot be brought to RGB.
    """

    def __init__(self, code: ImageErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.status = _STATUS[code]


def read_image(data: bytes, fitting: Fitting, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> NDArray[np.uint8]:
    """Return the image in ``data`` as the graph takes it: RGB, uint8 ``[size, size, 3]``. Raises ImageError."""
    return fit_image(decode_image(data, max_pixels=max_pixels), fitting)


def decode_image(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Return the image in ``data``, upright and RGB; of an animation or a stack of pages, the first.

    PNG, JPEG, WebP, BMP, GIF and TIFF, judged by content. The EXIF orientation is applied and a corrupt EXIF ignored.
    Alpha lies over white. 16-bit values keep their high byte. Wide integers and floats (TIFF) state no white: the least
    of 1 (floats only), 255 and 65535 that holds the brightest pixel is taken for it, else that pixel; negative and NaN
    are black. Colour profiles are not applied.

    ``max_pixels``, at most MAX_PIXELS_LIMIT, bounds width x height as the header states them, before any pixel is
    decoded. Raises ImageError.
    """
    name, reader = _format_of(data)
    try:
        if name == "JPEG":
            _check_jpeg(data)
        elif name == "PNG":
            _check_png(data)
        image = reader(BytesIO(data))
        width, height = image.size
        _check_size(width, height, max_pixels)
        if isinstance(image, TiffImageFile):
            _check_size(int(image.tag_v2.get(TILEWIDTH, 1)), int(image.tag_v2.get(TILELENGTH, 1)), max_pixels)
        image.load()
        orientation = _orientation(image)
        rgb = _to_rgb(image)
        return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("image_too_large", _too_large(max_pixels)) from error
    except MemoryError as error:
        raise ImageError("undecodable_image", f"this {name} file asks for more memory than there is") from error
    except Exception as error:
        # Hostile bytes make Pillow's readers raise nearly anything: SyntaxError, struct.error, OSError, zlib.error, ...
        detail = "".join(filter(str.isprintable, str(error)))[:200] or type(error).__name__
        raise ImageError("undecodable_image", f"this {name} file will not decode: {detail}") from error


def ignore_metadata_warnings() -> None:
    """Let nothing come of Pillow's warnings of corrupt metadata, in this process and from now on.

    Python remembers the text of every warning that it shows; here a client chooses the texts, and memory would grow.
    """
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def fit_image(image: Image.Image, fitting: Fitting) -> NDArray[np.uint8]:
    """Bring an RGB image to uint8 ``[size, size, 3]``: shorter side to ``shorter_side``, then the centre crop.

    Antialiased bicubic. An image of ``size`` x ``size`` already is passed untouched.
    """
    if image.size != (fitting.size, fitting.size):
        image = _resized_centre(image, fitting.shorter_side, fitting.size, fitting.size)
    return np.array(image, dtype=np.uint8)


def resize_shorter_side(image: Image.Image, shorter_side: int) -> Image.Image:
    """Return an RGB image resized, antialiased bicubic, so that its shorter side has ``shorter_side`` pixels.

    The proportions stay; of an image longer than MAX_ASPECT times its breadth the centre is kept.
    """
    longest = MAX_ASPECT * shorter_side
    width, height = (min(length, longest) for length in _resized_size(image.size, shorter_side))
    return _resized_centre(image, shorter_side, width, height)


def _resized_size(size: tuple[int, int], shorter_side: int) -> tuple[int, int]:
    shorter = min(size)
    width, height = (max(shorter_side, round(length * shorter_side / shorter)) for length in size)
    return width, height


def _resized_centre(image: Image.Image, shorter_side: int, width: int, height: int) -> Image.Image:
    """Return the centre ``width`` x ``height`` of the image resized to ``shorter_side``, making no more than that."""
    spans = [
        _Span.of_centre(source, resized, kept)
        for source, resized, kept in zip(
            image.size, _resized_size(image.size, shorter_side), (width, height), strict=True
        )
    ]
    region = image.crop((spans[0].first, spans[1].first, spans[0].last, spans[1].last))
    # Along the rows, then the columns, in two calls: in one, Pillow picks the order by cost, and rounds otherwise.
    rows = region.resize(
        (width, region.height), Image.Resampling.BICUBIC, box=(spans[0].start, 0, spans[0].stop, region.height)
    )
    return rows.resize((width, height), Image.Resampling.BICUBIC, box=(0, spans[1].start, width, spans[1].stop))


class _Span:
    """One axis of a resized centre: source pixels ``first`` to ``last`` to cut out, and the box within them, in pixels.

    The cut has a margin of the filter's reach, so that the pixels are those of resizing the whole; the box is relative
    to the cut because Pillow keeps it in 32-bit floats.
    """

    def __init__(self, first: int, last: int, start: float, stop: float) -> None:
        self.first, self.last, self.start, self.stop = first, last, start, stop

    @classmethod
    def of_centre(cls, source: int, resized: int, kept: int) -> _Span:
        scale = source / resized
        offset = (resized - kept) // 2
        start, stop = offset * scale, (offset + kept) * scale
        reach = ceil(2 * max(scale, 1)) + 1  # bicubic: two pixels each way, wider by the scale where it shrinks
        first, last = max(0, floor(start) - reach), min(source, ceil(stop) + reach)
        return cls(first, last, start - first, min(stop, last) - first)


def _format_of(data: bytes) -> tuple[str, Callable[[BytesIO], ImageFile]]:
    for name, signature, reader in _FORMATS:
        if signature.match(data):
            return name, reader
    what = "an empty file" if not data else "no image of a format taken here"
    raise ImageError("not_an_image", f"{what}; send {', '.join(name for name, _, _ in _FORMATS)}")


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError("image_too_large", f"{width} x {height} pixels; {_too_large(max_pixels)}")


def _too_large(max_pixels: int) -> str:
    return f"an image may have {max_pixels} pixels"


def _check_jpeg(data: bytes) -> None:
    """Refuse a JPEG that a few bytes make slow to read: endless scans, segments, or junk between the segments."""
    scans, segments, junk, position = 0, 0, 0, 2
    while marker := _JPEG_MARKER.search(data, position):
        code = marker[1][0]
        if code == _JPEG_END:
            return
        if scans == 0:
            junk += marker.start() - position
        scans += code == _JPEG_SCAN
        segments += 1
        if scans > MAX_JPEG_SCANS or segments > MAX_PARTS or junk > MAX_JPEG_JUNK:
            raise ImageError(
                "undecodable_image",
                f"this JPEG file has more than {MAX_JPEG_SCANS} scans, {MAX_PARTS} segments "
                f"or {MAX_JPEG_JUNK} stray bytes",
            )
        position = marker.end()
        if code not in (_JPEG_START, _JPEG_TEMPORARY):
            position += int.from_bytes(data[position : position + 2], "big")


def _check_png(data: bytes) -> None:
    """Refuse a PNG of endless chunks; each is its length in four bytes, a name of four, a body, a checksum."""
    chunks, position = 0, 8
    while position < len(data):
        position += 12 + int.from_bytes(data[position : position + 4], "big")
        chunks += 1
        if chunks > MAX_PARTS:
            raise ImageError("undecodable_image", f"this PNG file has more than {MAX_PARTS} chunks")


def _orientation(image: ImageFile) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:
        return 1  # a corrupt EXIF says nothing about the pixels


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = _from_16_bit(image)
    elif image.mode in ("I", "F"):
        image = _from_unbounded(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    transparent = image.info.get("transparency")
    if isinstance(transparent, tuple) and max(transparent) > 255:  # a 16-bit colour, of pixels already cut to 8 bits
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    rgba = image.convert("RGBA")
    page = Image.new("RGB", rgba.size, "white")
    page.paste(rgba, mask=rgba.getchannel("A"))
    return page


def _from_16_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    bits = image.tag_v2.get(BITSPERSAMPLE, (16,))[0] if isinstance(image, TiffImageFile) else 16
    grey = Image.fromarray((values >> (bits - 8)).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is None:
        return grey
    alpha = Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))
    return Image.merge("LA", (grey, alpha))


def _from_unbounded(image: Image.Image) -> Image.Image:
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0, posinf=np.inf, neginf=0.0)
    peak = float(values.max(where=np.isfinite(values), initial=0.0))
    whites = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
    white = next((white for white in whites if peak <= white), peak)
    return Image.fromarray((np.clip(values, 0.0, white) * (255.0 / white)).round().astype(np.uint8))
