"""Errors that a client is told of: one shape for every refused request (design: HTTP API).

``{"error": {"code", "message", "image"?: zero-based index, "filename"?}}``, with ``status`` as HTTP status.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any


class ApiError(Exception):
    """A refusal with an HTTP status, a code for programs and a message for people.

    ``image`` is the zero-based index of the image at fault and ``filename`` the name it was uploaded under, each only
    where one image is at fault. ``headers`` go out with the answer (Retry-After with a 503).
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        image: int | None = None,
        filename: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.image = image
        self.filename = filename
        self.headers = dict(headers or {})

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to make a copy in another process: kinds of this error take other arguments than this class."""
        return _again, (type(self), self.status, self.code, self.message, self.image, self.filename, self.headers)

    def body(self) -> dict[str, Any]:
        """Return the JSON body of the answer; ``image`` and ``filename`` are left out where they are None."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.image is not None:
            error["image"] = self.image
        if self.filename is not None:
            error["filename"] = self.filename
        return {"error": error}


def _again(kind: type[ApiError], *fields: Any) -> ApiError:
    error = kind.__new__(kind)
    ApiError.__init__(error, *fields)
    return error


class UnknownModelError(ApiError):
    """404: no model of that name is loaded."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(404, "unknown_model", unknown_name("model", name, known))


class NoClassifierError(ApiError):
    """404: a classifier is asked for and none is loaded."""

    def __init__(self) -> None:
        super().__init__(404, "no_classifier", "no classifier is loaded here; only one-class models")


class WrongKindError(ApiError):
    """400: the model named is of a kind that this endpoint does not run."""

    def __init__(self, name: str, kind: str, wanted: str) -> None:
        super().__init__(400, "wrong_kind", f"model {name!r} is a {kind} model; a {wanted} model is needed here")


class TwoClassifiersError(ApiError):
    """400: a request names more than one classifier."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(400, "two_classifiers", f"name one classifier at most, not {', '.join(names)}")


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """Say that there is no ``what`` called ``name``: with the nearest known one, or else with all of them."""
    names = sorted(known)
    name = name[:100]
    nearest = get_close_matches(name, names, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(names) or 'none'}"
    return f"unknown {what} {name!r}; {hint}"
