"""Uploads: a multipart/form-data body, read as it arrives and within limits, into images and text fields.

The service reads requests itself because BentoML's image parameters answer 500 to most bad input. Nothing is written to
disk: a body is held in memory, never more of it than ``UploadLimits.request_bytes``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from serving.errors import ApiError, unknown_name

IMAGES_FIELD = "images"
# 64 models, each in a field of its own, and the other fields; in so many bytes all together.
MAX_TEXT_FIELDS = 70
MAX_TEXT_BYTES = 10_000
MAX_FILENAME_CHARACTERS = 255
MAX_BOUNDARY_CHARACTERS = 256


@dataclass(frozen=True)
class UploadLimits:
    """Upper bounds on one request: bytes of the whole body, bytes of one image, number of images."""

    request_bytes: int
    image_bytes: int
    images: int


@dataclass(frozen=True)
class Upload:
    """One uploaded file as it was sent: its bytes, or why they were not kept (``error``)."""

    data: bytes
    filename: str | None
    error: ApiError | None = None


@dataclass
class Form:
    """What a request holds: the images in the order they were sent, and every value of each text field."""

    images: list[Upload] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)


async def read_form(
    content_type: str | None,
    content_length: str | None,
    chunks: AsyncIterator[bytes],
    limits: UploadLimits,
    text_fields: Sequence[str],
) -> Form:
    """Read a multipart body whose files are in the field ``images`` and whose texts are in ``text_fields``.

    A file larger than ``limits.image_bytes`` is kept as an Upload with its error and without its bytes, so that the
    other images of the request can still be answered. Raises ApiError: 415 for another media type; 413 as soon as the
    announced or the received body passes ``limits.request_bytes`` or the images their number; 400 for a body that is
    not well formed or ends early, for an unknown field, a file in a text field, a text in ``images``, no image, and
    for more than MAX_TEXT_FIELDS texts or MAX_TEXT_BYTES of them.
    """
    media_type, options = parse_options_header(content_type or "")
    if media_type != "multipart/form-data":
        found = f"not {media_type[:100]!r}" if media_type else "and this one has no Content-Type"
        raise ApiError(415, "not_multipart", f"send the images as multipart/form-data, {found}")
    boundary = options.get("boundary")
    if not boundary or len(boundary) > MAX_BOUNDARY_CHARACTERS:
        raise _malformed(f"the Content-Type has {'too long a' if boundary else 'no'} boundary")
    if content_length is not None and content_length.isdigit() and int(content_length) > limits.request_bytes:
        raise _too_many_bytes(limits)
    reader = _FormReader(limits, text_fields)
    received = 0
    try:
        parser = PushMultipartParser(boundary, header_charset="latin-1")
        async for chunk in chunks:
            received += len(chunk)
            if received > limits.request_bytes:
                raise _too_many_bytes(limits)
            if chunk:
                for event in parser.parse(chunk):
                    reader.take(event)
        parser.close(check_complete=received > 0)
    except MultipartError as error:
        raise _malformed(str(error)) from error
    if not reader.form.images:
        raise ApiError(400, "no_images", f"send one or more image files in the field {IMAGES_FIELD!r}")
    return reader.form


class _FormReader:
    """Collects what the parser meets in a body into a Form."""

    def __init__(self, limits: UploadLimits, text_fields: Sequence[str]) -> None:
        self.form = Form()
        self._limits = limits
        self._text_fields = text_fields
        self._name = ""
        self._filename: str | None = None
        self._data: list[bytes] = []
        self._size = 0
        self._parts = 0
        self._texts = 0
        self._text_bytes = 0

    def take(self, event: MultipartSegment | bytes | None) -> None:
        """Take the head of a part, some of its bytes, or its end (None). Raises ApiError."""
        if event is None:
            self._end()
        elif isinstance(event, MultipartSegment):
            self._begin(event)
        else:
            self._extend(event)

    def _begin(self, part: MultipartSegment) -> None:
        if not part.name:
            raise _malformed("a part has no Content-Disposition with a name")
        self._parts += 1
        if self._parts > self._limits.images + MAX_TEXT_FIELDS:  # empty files, which are no images, count here
            raise _malformed("it has too many parts")
        self._data = []
        self._size = 0
        self._name = _text(part.name)
        is_file = part.filename is not None
        self._filename = _text(part.filename)[:MAX_FILENAME_CHARACTERS] if is_file else None
        if self._name == IMAGES_FIELD:
            if not is_file:
                raise ApiError(400, "bad_field", f"the field {IMAGES_FIELD!r} takes files, not text or addresses")
            if len(self.form.images) == self._limits.images:
                raise ApiError(413, "too_many_images", f"one request takes {self._limits.images} images at most")
        elif self._name not in self._text_fields:
            known = (IMAGES_FIELD, *self._text_fields)
            raise ApiError(400, "unknown_field", unknown_name("field", self._name, known))
        elif is_file:
            raise ApiError(400, "bad_field", f"the field {self._name!r} takes text, not a file")
        else:
            self._texts += 1
            if self._texts > MAX_TEXT_FIELDS:
                raise ApiError(400, "bad_field", f"one request takes {MAX_TEXT_FIELDS} text fields at most")

    def _extend(self, data: bytes) -> None:
        self._size += len(data)
        if self._name == IMAGES_FIELD:
            if self._size > self._limits.image_bytes:
                self._data.clear()
                return
        else:
            self._text_bytes += len(data)
            if self._text_bytes > MAX_TEXT_BYTES:
                raise ApiError(400, "bad_field", f"the text fields have more than {MAX_TEXT_BYTES} bytes together")
        self._data.append(data)

    def _end(self) -> None:
        data = b"".join(self._data)
        if self._name != IMAGES_FIELD:
            self.form.texts.setdefault(self._name, []).append(data.decode("utf-8", "replace"))
        elif self._size or self._filename:  # a browser sends an empty, nameless file where none was chosen
            self.form.images.append(Upload(data, self._filename or None, self._size_error()))
        self._data = []

    def _size_error(self) -> ApiError | None:
        if self._size <= self._limits.image_bytes:
            return None
        reason = f"the file has {self._size} bytes; an image may have {self._limits.image_bytes}"
        return ApiError(413, "image_too_large", reason)


def _text(value: str) -> str:
    """Read as UTF-8 what a header was read as Latin-1, which takes any bytes."""
    return value.encode("latin-1").decode("utf-8", "replace")


def _malformed(reason: str) -> ApiError:
    return ApiError(400, "bad_multipart", f"the multipart body cannot be read: {reason}")


def _too_many_bytes(limits: UploadLimits) -> ApiError:
    return ApiError(413, "request_too_large", f"one request takes {limits.request_bytes} bytes at most")
