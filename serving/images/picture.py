"""Picture: a decoded image, of which RGB is made region by region, upright, so that no copy of the whole is needed.

What an image's colours become is defined in ``image_file.decode_image``; all of it is done pixel by pixel, but for the
brightest pixel of wide values, which is looked for once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

# Pixels of which RGB is made at a time: a megabyte of them, and ten while wide values are scaled.
BAND_PIXELS = 1 << 18

_MIRRORED_X, _MIRRORED_Y, _SIDEWAYS = (2, 3, 7, 8), (3, 4, 6, 7), (5, 6, 7, 8)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Box = tuple[int, int, int, int]


class Picture:
    """A loaded image of any mode with its EXIF ``orientation``; ``size`` is that of the upright picture.

    Its methods raise what Pillow raises for an image that cannot be brought to RGB.
    """

    def __init__(self, image: Image.Image, orientation: int = 1) -> None:
        self._image = image
        self._orientation = orientation if orientation in _UPRIGHT else 1
        self._to_rgb = _conversion(image)
        width, height = image.size
        self.size = (height, width) if self._orientation in _SIDEWAYS else (width, height)

    def whole(self) -> Image.Image:
        """Return all of it as RGB: the very image where that is what it is."""
        if self._to_rgb is not None:
            rgb = Image.new("RGB", self._image.size)
            for box in bands((0, 0, *self._image.size)):
                rgb.paste(self._to_rgb(self._image.crop(box)), box[:2])
        else:
            rgb = self._image
        return rgb.transpose(_UPRIGHT[self._orientation]) if self._orientation != 1 else rgb

    def region(self, box: Box) -> Image.Image:
        """Return the part within (left, top, right, bottom) as an RGB image of its own."""
        region = self._image.crop(self._stored(box))
        if self._to_rgb is not None:
            region = self._to_rgb(region)
        return region.transpose(_UPRIGHT[self._orientation]) if self._orientation != 1 else region

    def _stored(self, box: Box) -> Box:
        """Return where a box of the upright picture lies in the image as it is stored."""
        if self._orientation == 1:
            return box
        left, top, right, bottom = box
        width, height = self._image.size
        if self._orientation in _SIDEWAYS:
            left, top, right, bottom = top, left, bottom, right
        if self._orientation in _MIRRORED_X:
            left, right = width - right, width - left
        if self._orientation in _MIRRORED_Y:
            top, bottom = height - bottom, height - top
        return left, top, right, bottom


def bands(box: Box) -> Iterator[Box]:
    """Cut a box into boxes of whole rows, of about BAND_PIXELS each, from the top down."""
    left, top, right, bottom = box
    rows = max(1, BAND_PIXELS // max(1, right - left))
    for start in range(top, bottom, rows):
        yield left, start, right, min(bottom, start + rows)


_Conversion = Callable[[Image.Image], Image.Image]


def _conversion(image: Image.Image) -> _Conversion | None:
    """Return what makes RGB of a part of the image; None where it is RGB."""
    if image.mode.startswith("I;16"):
        return _from_16_bit(image)
    if image.mode in ("I", "F"):
        return _from_unbounded(image)
    if not image.has_transparency_data:
        return None if image.mode == "RGB" else _to_rgb
    transparent = image.info.get("transparency")
    if isinstance(transparent, tuple) and max(transparent) > 255:  # a 16-bit colour, of pixels already cut to 8 bits
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    return _over_white


def _to_rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    page = Image.new("RGB", rgba.size, "white")
    page.paste(rgba, mask=rgba.getchannel("A"))
    return page


def _from_16_bit(image: Image.Image) -> _Conversion:
    bits = image.tag_v2.get(BITSPERSAMPLE, (16,))[0] if isinstance(image, TiffImageFile) else 16
    transparent = image.info.get("transparency")

    def convert(part: Image.Image) -> Image.Image:
        values = np.asarray(part)
        grey = Image.fromarray((values >> (bits - 8)).astype(np.uint8))
        if transparent is None:
            return grey.convert("RGB")
        alpha = Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))
        return _over_white(Image.merge("LA", (grey, alpha)))

    return convert


def _from_unbounded(image: Image.Image) -> _Conversion:
    peak = 0.0
    for box in bands((0, 0, *image.size)):
        values = _wide(image.crop(box))
        peak = max(peak, float(values.max(where=np.isfinite(values), initial=0.0)))
    whites = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
    white = next((white for white in whites if peak <= white), peak)

    def convert(part: Image.Image) -> Image.Image:
        values = np.nan_to_num(_wide(part), nan=0.0, posinf=np.inf, neginf=0.0)
        scaled = (np.clip(values, 0.0, white) * (255.0 / white)).round().astype(np.uint8)
        return Image.fromarray(scaled).convert("RGB")

    return convert


def _wide(part: Image.Image) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        return np.asarray(part).astype(np.float64)
