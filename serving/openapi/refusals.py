"""Refusals: every error code of the API, its status, when it is given, and an example of its message.

The OpenAPI document and docs/http-api.md are held against this table, and it against the code that raises, by a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Refusal:
    """One code with its HTTP ``status``; ``of_image``: the error says which image is at fault."""

    status: int
    code: str
    when: str
    message: str
    of_image: bool = False

    def example(self) -> dict[str, Any]:
        """Return a body of this refusal."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.of_image:
            error |= {"image": 1, "filename": "horse.png"}
        return {"error": error}


REFUSALS = (
    Refusal(400, "bad_request", "The request is not understood.", "the request is not understood"),
    Refusal(
        400,
        "bad_header",
        "Content-Type or Content-Length holds bytes that are not ASCII.",
        "the header content-type holds bytes that are not ASCII",
    ),
    Refusal(
        400,
        "bad_multipart",
        "The body is malformed or ends early.",
        "the multipart body cannot be read: the body ends before its last boundary",
    ),
    Refusal(
        400,
        "unknown_field",
        "The form has a field that the endpoint does not know.",
        "unknown field 'image'; did you mean 'images'?",
    ),
    Refusal(
        400,
        "bad_field",
        "A field is repeated, out of range, too long, in the address, or a file where a text is due or the reverse.",
        "the field 'top_k' takes a whole number from 1 on, not '0'",
    ),
    Refusal(400, "no_images", "The form has no image.", "send one or more image files in the field 'images'"),
    Refusal(
        400,
        "wrong_kind",
        "The endpoint does not run models of this kind.",
        "model 'cifar10-transformations' is a one_class model; a classifier model is needed here",
    ),
    Refusal(
        400,
        "two_classifiers",
        "The request names more than one classifier.",
        "name one classifier at most, not cifar10-rotations, cifar10-plain",
    ),
    Refusal(
        401,
        "unauthorized",
        "The server has an API key and the request did not bring it.",
        "bring the API key as X-API-Key",
    ),
    Refusal(
        404,
        "unknown_model",
        "No model of this name is loaded.",
        "unknown model 'cifar10-rotation'; did you mean 'cifar10-rotations'?",
    ),
    Refusal(
        404,
        "no_classifier",
        "A classifier is needed and none is loaded.",
        "no classifier is loaded here; only one-class models",
    ),
    Refusal(
        404,
        "not_found",
        "There is nothing at this path.",
        "there is nothing at this path; GET /models lists the models, /docs.json describes the API",
    ),
    Refusal(
        405,
        "method_not_allowed",
        "The path does not take this method: GET where POST is meant.",
        "this path does not take this method",
    ),
    Refusal(
        408,
        "upload_timeout",
        "The body did not arrive in time.",
        "the body did not arrive within 60 seconds",
    ),
    Refusal(
        413,
        "request_too_large",
        "The whole request has too many bytes.",
        "one request takes 67108864 bytes at most",
    ),
    Refusal(
        413,
        "too_many_images",
        "The request has too many images, or too many for the sizes of its models.",
        "one request takes 64 images at most",
    ),
    Refusal(
        413,
        "image_too_large",
        "An image has too many bytes, or too many pixels by its header.",
        "10000 x 9000 pixels; an image may have 25000000 pixels",
        of_image=True,
    ),
    Refusal(
        415,
        "not_multipart",
        "The request is no multipart form.",
        "send the images as multipart/form-data, not 'application/json'",
    ),
    Refusal(
        415,
        "not_an_image",
        "A file is no image of a format taken here.",
        "no image of a format taken here; send PNG, JPEG, WebP, BMP, GIF, TIFF",
        of_image=True,
    ),
    Refusal(
        415,
        "unsupported_media_type",
        "The media type is not taken at this path.",
        "this media type is not taken here",
    ),
    Refusal(
        422,
        "undecodable_image",
        "An image is damaged, cut off, or of a kind that cannot be brought to RGB.",
        "this PNG file will not decode: image file is truncated",
        of_image=True,
    ),
    Refusal(
        431,
        "head_too_large",
        "The headers, or what follows a body sent in chunks, have too many bytes.",
        "the headers of a request take 65536 bytes at most",
    ),
    Refusal(500, "internal_error", "A fault of the server.", "a fault of the server; its log says more"),
    Refusal(
        503,
        "busy",
        "As many requests, or bytes of requests, are held as the server takes; Retry-After says when to come back.",
        "the server is full; try again",
    ),
    Refusal(503, "not_ready", "The server is starting.", "the service is not ready; try again"),
    Refusal(504, "timeout", "The answer took too long.", "the request took longer than 60 seconds"),
)
