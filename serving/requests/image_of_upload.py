"""Image of an upload: decoded once and brought to the size of every graph, or the error that its client is told."""

from __future__ import annotations

from collections.abc import Iterable

from serving.errors import ApiError
from serving.images.fitting import Fitted, Fitting
from serving.images.image_file import ImageError, OpenedImage
from serving.requests.heap import LARGE_BYTES, trim
from serving.requests.uploads import Upload


def fit_upload(upload: Upload, index: int, fittings: Iterable[Fitting], max_pixels: int) -> Fitted | ApiError:
    """Decode an upload once and fit it to every size wanted, or return the error that says what is wrong with it.

    ``index`` is the zero-based place in the request that the error names.
    """
    opened = open_upload(upload, index, max_pixels)
    return opened if isinstance(opened, ApiError) else fit_opened(opened, upload, index, fittings)


def open_upload(upload: Upload, index: int, max_pixels: int) -> OpenedImage | ApiError:
    """Read the header of an upload, or return the error that says what is wrong with it."""
    if upload.error is not None:
        cause = upload.error
        return ApiError(cause.status, cause.code, cause.message, index, upload.filename)
    try:
        return OpenedImage(upload.data, max_pixels=max_pixels)
    except ImageError as error:
        return _of_image(error, upload, index)


def fit_opened(opened: OpenedImage, upload: Upload, index: int, fittings: Iterable[Fitting]) -> Fitted | ApiError:
    """Decode and fit an upload of which the header is read, or return the error that says what is wrong with it.

    Its pixels are gone by the end, and after a large image free memory is given back to the system.
    """
    try:
        return opened.fit(set(fittings))
    except ImageError as error:
        return _of_image(error, upload, index)
    finally:
        opened.forget()
        if opened.decoding_bytes >= LARGE_BYTES:
            trim()


def _of_image(error: ImageError, upload: Upload, index: int) -> ApiError:
    return ApiError(error.status, error.code, error.reason, index, upload.filename)
