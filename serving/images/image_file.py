"""Image file: from its bytes to the array a graph takes. The one definition of fitting, fixed in the design.

Training folders, calibration and serving all come through here, so that a model never meets an image prepared otherwise
than those it learnt from. Nothing but ImageError is raised for what a file holds.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
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
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH, TiffImageFile
from PIL.TiffTags import TAGS_V2_GROUPS
from PIL.WebPImagePlugin import WebPImageFile

from serving.images.bare_png import BarePng, bare_png
from serving.images.fitting import Fitting
from serving.images.parts import MAX_EXIF_BYTES, needed_parts
from serving.images.picture import Picture, bands

DEFAULT_MAX_PIXELS = 50_000_000
# Pillow's own alarm, a process-wide setting, goes off above this; a higher limit of ours would be an empty promise.
MAX_PIXELS_LIMIT = 1024**3 // 4 // 3
# A BMP with run-length encoding is decoded in Python: a megapixel takes 0.2 s, and each run some time of its own.
MAX_RUN_LENGTH_PIXELS = 1 << 20
MAX_RUN_LENGTH_BYTES = 4 << 20
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

_EXIF_ORIENTATION = 0x0112
# EXIF in hexadecimal, as a text of a PNG.
_RAW_EXIF = "Raw profile type exif"
# Where Pillow looks for the orientation of a file that is no TIFF; to let it look takes a tenth of a small PNG's time.
_ORIENTATION_SOURCES = frozenset(("exif", _RAW_EXIF, "XML:com.adobe.xmp", "xmp"))
_BMP_RUN_LENGTH = (BmpImageFile.COMPRESSIONS["RLE8"], BmpImageFile.COMPRESSIONS["RLE4"])
# Bytes of memory a pixel takes at most while it is decoded (docs/deployment.md has measured ones): a picture has four,
# a progressive JPEG its coefficients, a TIFF a strip or tile of up to eight bytes a pixel, a WebP three more canvases.
_BYTES_A_PIXEL = {"PNG": 4, "JPEG": 4, "WebP": 16, "BMP": 4, "GIF": 4, "TIFF": 12}
_BYTES_A_PROGRESSIVE_PIXEL = 12


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
    return OpenedImage(data, max_pixels=max_pixels).fit([fitting])[fitting]


def decode_image(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Return the image in ``data``, upright and RGB; of an animation or a stack of pages, the first.

    PNG, JPEG, WebP, BMP, GIF and TIFF, judged by content. The EXIF orientation is applied and a corrupt EXIF ignored.
    Alpha lies over white. 16-bit values keep their high byte. Wide integers and floats (TIFF) state no white: the least
    of 1 (floats only), 255 and 65535 that holds the brightest pixel is taken for it, else that pixel; negative and NaN
    are black. Colour profiles are not applied.

    ``max_pixels``, at most MAX_PIXELS_LIMIT, bounds width x height as the header states them, before any pixel is
    decoded; of a BMP with run-length encoding MAX_RUN_LENGTH_PIXELS does too. Raises ImageError.
    """
    return OpenedImage(data, max_pixels=max_pixels).whole()


class OpenedImage:
    """An image file of which the header has been read and judged, and no pixel decoded yet; as ``decode_image``.

    ``decoding_bytes``: how much memory decoding its pixels takes, an upper bound beside the file itself and what its
    reader copies of that. Raises ImageError.
    """

    def __init__(self, data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
        self._name, reader = _format_of(data)
        self._max_pixels = max_pixels
        try:
            image = bare_png(data) or reader(BytesIO(needed_parts(self._name, data)))
            width, height = image.size
            _check_size(width, height, max_pixels)
            pixels = width * height
            if isinstance(image, TiffImageFile):
                tile = int(image.tag_v2.get(TILEWIDTH, 1)), int(image.tag_v2.get(TILELENGTH, 1))
                _check_size(*tile, max_pixels)
                pixels = max(pixels, tile[0] * tile[1])
            elif isinstance(image, BmpImageFile) and image.info["compression"] in _BMP_RUN_LENGTH:
                _check_run_length(pixels, len(data))
        except Exception as error:
            raise self._refusal(error) from error
        self._image = image
        progressive = isinstance(image, JpegImageFile) and "progressive" in image.info
        self.decoding_bytes = pixels * (_BYTES_A_PROGRESSIVE_PIXEL if progressive else _BYTES_A_PIXEL[self._name])

    def whole(self) -> Image.Image:
        """Decode it and return all of it, upright and RGB. Raises ImageError."""
        try:
            return self._decoded().whole()
        except Exception as error:
            raise self._refusal(error) from error

    def fit(self, fittings: Iterable[Fitting]) -> dict[Fitting, NDArray[np.uint8]]:
        """Decode it and bring it to every size wanted, with no more than a part of it in RGB. Raises ImageError."""
        try:
            picture = self._decoded()
            return {fitting: fit_image(picture, fitting) for fitting in fittings}
        except Exception as error:
            raise self._refusal(error) from error

    def forget(self) -> None:
        """Let the pixels go; nothing can be asked of it after that."""
        del self._image

    def _decoded(self) -> Picture:
        if isinstance(self._image, BarePng):
            return Picture(self._image.unpack())
        if isinstance(self._image, TiffImageFile):
            # The directories within the first are of no use, and would be read whole.
            exif = self._image.getexif()
            for tag in exif.keys() & TAGS_V2_GROUPS.keys():
                del exif[tag]
        self._image.load()
        return Picture(self._image, _orientation(self._image))

    def _refusal(self, error: Exception) -> ImageError:
        """Say what ``error`` means. Hostile bytes make Pillow raise nearly anything: SyntaxError, struct.error, ..."""
        if isinstance(error, ImageError):
            return error
        if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
            return ImageError("image_too_large", _too_large(self._max_pixels))
        if isinstance(error, MemoryError):
            return ImageError("undecodable_image", f"this {self._name} file asks for more memory than there is")
        detail = "".join(filter(str.isprintable, str(error)))[:200] or type(error).__name__
        return ImageError("undecodable_image", f"this {self._name} file will not decode: {detail}")


def ignore_metadata_warnings() -> None:
    """Let nothing come of Pillow's warnings, of corrupt metadata or many pixels, in this process and from now on.

    Python remembers the text of every warning that it shows; here a client chooses the texts, and memory would grow.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")


def fit_image(image: Image.Image | Picture, fitting: Fitting) -> NDArray[np.uint8]:
    """Bring an RGB image to uint8 ``[size, size, 3]``: shorter side to ``shorter_side``, then the centre crop.

    Antialiased bicubic. An image of ``size`` x ``size`` already is passed untouched.
    """
    picture = Picture(image) if isinstance(image, Image.Image) else image
    if picture.size == (fitting.size, fitting.size):
        return _pixels(picture.whole())
    return _pixels(_resized_centre(picture, fitting.shorter_side, fitting.size, fitting.size))


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return an RGB image's pixels, writeable; ``np.array`` takes longer, by a tenth of a small PNG's time."""
    return np.frombuffer(bytearray(image.tobytes()), np.uint8).reshape(image.height, image.width, 3)


def resize_shorter_side(image: Image.Image, shorter_side: int) -> Image.Image:
    """Return an RGB image resized, antialiased bicubic, so that its shorter side has ``shorter_side`` pixels.

    The proportions stay; of an image longer than MAX_ASPECT times its breadth the centre is kept.
    """
    longest = MAX_ASPECT * shorter_side
    width, height = (min(length, longest) for length in _resized_size(image.size, shorter_side))
    return _resized_centre(Picture(image), shorter_side, width, height)


def _resized_size(size: tuple[int, int], shorter_side: int) -> tuple[int, int]:
    shorter = min(size)
    width, height = (max(shorter_side, round(length * shorter_side / shorter)) for length in size)
    return width, height


def _resized_centre(picture: Picture, shorter_side: int, width: int, height: int) -> Image.Image:
    """Return the centre ``width`` x ``height`` of the picture resized to ``shorter_side``, making no more than that."""
    across, down = (
        _Span.of_centre(source, resized, kept)
        for source, resized, kept in zip(
            picture.size, _resized_size(picture.size, shorter_side), (width, height), strict=True
        )
    )
    # Along the rows, then the columns, in two calls: in one, Pillow picks the order by cost, and rounds otherwise. Each
    # row is resized by itself, so they are taken some at a time.
    rows = Image.new("RGB", (width, down.last - down.first))
    for left, top, right, bottom in bands((across.first, down.first, across.last, down.last)):
        band = picture.region((left, top, right, bottom))
        box = (across.start, 0, across.stop, bottom - top)
        rows.paste(band.resize((width, bottom - top), Image.Resampling.BICUBIC, box=box), (0, top - down.first))
    return rows.resize((width, height), Image.Resampling.BICUBIC, box=(0, down.start, width, down.stop))


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


def _check_run_length(pixels: int, size: int) -> None:
    most = "a BMP file with run-length encoding may have"
    if pixels > MAX_RUN_LENGTH_PIXELS:
        raise ImageError("image_too_large", f"{most} {MAX_RUN_LENGTH_PIXELS} pixels; save it without, or as PNG")
    if size > MAX_RUN_LENGTH_BYTES:
        raise ValueError(f"{most} {MAX_RUN_LENGTH_BYTES} bytes")


def _orientation(image: ImageFile) -> int:
    if _ORIENTATION_SOURCES.isdisjoint(image.info) and not isinstance(image, TiffImageFile):
        return 1
    try:
        if len(image.info.get(_RAW_EXIF, "")) > 4 * MAX_EXIF_BYTES:
            return 1
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:
        return 1  # a corrupt EXIF says nothing about the pixels
