"""Client: a Quarterturn server from Python, with typed answers, errors that say which image, and patience with a 503.

Imports httpx and nothing else of what a server needs. docs/api.md shows its use, docs/decisions/0018 why it is there.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Sequence
from numbers import Number
from pathlib import Path
from time import sleep
from typing import Any, BinaryIO, Literal, TypeAlias, cast, overload

import httpx

from serving.client_answers import AnomalyAnswer, AnomalyResult, BadImage, ClassifyAnswer, ClassifyResult, ModelsAnswer
from serving.errors import ApiError

Image: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO"

# A server gives a request 60 seconds by default, its upload included.
DEFAULT_TIMEOUT_SECONDS = 65.0
DEFAULT_RETRY_AFTER_SECONDS = 1.0
LONGEST_RETRY_AFTER_SECONDS = 60.0

_KEY = re.compile(r"[!-~]*")


class RefusedError(ApiError):
    """The server refused a request: ``status``, ``code``, ``message``, and ``image`` and ``filename`` of a bad image.

    ``headers`` are the answer's. ``code`` is ``not_the_api`` where the answer is none of this API's: a proxy's page,
    or another server's.
    """

    def __str__(self) -> str:
        where = "" if self.image is None else f", image {self.image}"
        name = "" if self.filename is None else f" ({self.filename})"
        return f"{self.status} {self.code}{where}{name}: {self.message}"


class Client:
    """A connection to a server at ``url``; several threads may share one. Close it, or use it in a ``with``.

    ``api_key`` goes out as ``X-API-Key``. A request that is answered 503 is sent again up to ``retries`` times, each
    time after what the server's Retry-After says (1 second where it says nothing) and up to half of that more, so that
    clients refused together do not come back together; a server that asks for more than a minute is not waited for.

    An image is a path, the bytes of an image file, or a file opened for reading bytes, which is read to its end.
    Every method raises RefusedError where the server refuses, httpx.TransportError where it does not answer within
    ``timeout`` seconds or at all, OSError for a file that cannot be read, and ValueError where there are no images.
    Making a client raises ValueError for a key that no server can have, and for less than 0 retries.
    """

    def __init__(
        self, url: str, *, api_key: str | None = None, retries: int = 3, timeout: float = DEFAULT_TIMEOUT_SECONDS
    ) -> None:
        if retries < 0:
            raise ValueError(f"retries is a number from 0 on, not {retries}")
        if api_key is not None and not _KEY.fullmatch(api_key):  # the library would refuse it, and print it
            raise ValueError("the API key holds a character that no key has: a space, a line end, or no ASCII at all")
        headers = {} if api_key is None else {"X-API-Key": api_key}
        self._retries = retries
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the server."""
        self._http.close()

    @overload
    def classify(
        self, *images: Image, model: str | None = None, top_k: int | None = None, on_error: Literal["fail"] = "fail"
    ) -> ClassifyAnswer[ClassifyResult]: ...

    @overload
    def classify(
        self, *images: Image, model: str | None = None, top_k: int | None = None, on_error: Literal["report"]
    ) -> ClassifyAnswer[ClassifyResult | BadImage]: ...

    def classify(
        self,
        *images: Image,
        model: str | None = None,
        top_k: int | None = None,
        on_error: Literal["fail", "report"] = "fail",
    ) -> Any:
        """Say what is in each image: the likeliest class and the ``top_k`` likeliest, by the classifier ``model``.

        With ``on_error="report"`` a bad image has its error as its result; else the first one is a RefusedError.
        """
        return self._post("/classify", images, model=model, top_k=top_k, on_error=on_error)

    @overload
    def anomaly_score(
        self,
        *images: Image,
        model: str | Sequence[str] | None = None,
        alpha: float | None = None,
        views: bool = False,
        on_error: Literal["fail"] = "fail",
    ) -> AnomalyAnswer[AnomalyResult]: ...

    @overload
    def anomaly_score(
        self,
        *images: Image,
        model: str | Sequence[str] | None = None,
        alpha: float | None = None,
        views: bool = False,
        on_error: Literal["report"],
    ) -> AnomalyAnswer[AnomalyResult | BadImage]: ...

    def anomaly_score(
        self,
        *images: Image,
        model: str | Sequence[str] | None = None,
        alpha: float | None = None,
        views: bool = False,
        on_error: Literal["fail", "report"] = "fail",
    ) -> Any:
        """Say how strange each image is: each model's score (higher: stranger) and p-value, and a verdict.

        ``model`` names one or several that run; ``alpha`` in (0, 1) is the false-alarm rate of the verdict; ``views``
        adds the probability of each view's true transformation. None leaves a choice to the server. With
        ``on_error="report"`` a bad image has its error as its result; else the first one is a RefusedError.
        """
        return self._post("/anomaly_score", images, model=model, alpha=alpha, views=views, on_error=on_error)

    def models(self) -> ModelsAnswer:
        """Say which models the server has, and which of them run where a request names none."""
        return cast("ModelsAnswer", self._send("GET", "/models"))

    def _post(self, path: str, images: Sequence[Image], **fields: Any) -> Any:
        if not images:
            raise ValueError("no images")
        files = [("images", _file(index, image)) for index, image in enumerate(images)]
        return self._send("POST", path, files=files, data={name: _text(value) for name, value in fields.items()})

    def _send(self, method: str, path: str, **body: Any) -> Any:
        for retries_left in reversed(range(self._retries + 1)):
            response = self._http.request(method, path, **body)
            if response.is_success:
                return _json(response)
            wait = _retry_after(response)
            if response.status_code != 503 or not retries_left or wait > LONGEST_RETRY_AFTER_SECONDS:
                break
            sleep(wait * random.uniform(1, 1.5))
        raise _refusal(response)


def _file(index: int, image: Image) -> tuple[str, bytes]:
    """Return the name that an image goes under, and its bytes."""
    if isinstance(image, bytes):
        return f"image-{index}", image
    if isinstance(image, str | os.PathLike):
        path = Path(image)
        return _sendable(path.name), path.read_bytes()
    if not hasattr(image, "read"):
        raise TypeError(f"an image is a path, bytes or a file opened for reading bytes, not {type(image).__name__}")
    name = getattr(image, "name", None)
    base = Path(name).name if isinstance(name, str) else ""
    return _sendable(base) or f"image-{index}", image.read()


def _sendable(name: str) -> str:
    """Return the name of a file as a form can hold it: bytes that are no text, as question marks."""
    return name.encode("utf-8", "replace").decode()


def _text(value: object) -> str | list[str]:
    """Return a field as the form holds it; a list is a field repeated, and an empty one a field left out."""
    if value is None:
        return []
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Number):  # NumPy's numbers, too
        return str(value)
    return [str(one) for one in cast("Sequence[object]", value)]


def _retry_after(response: httpx.Response) -> float:
    """Return the seconds of Retry-After; the default without one, or where it is a date."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else DEFAULT_RETRY_AFTER_SECONDS


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        raise _not_the_api(response) from None


def _refusal(response: httpx.Response) -> RefusedError:
    try:
        error = response.json()["error"]
        code, message = str(error["code"]), str(error["message"])
    except (ValueError, TypeError, KeyError):
        return _not_the_api(response)
    image, filename = error.get("image"), error.get("filename")
    return RefusedError(response.status_code, code, message, image, filename, response.headers)


def _not_the_api(response: httpx.Response) -> RefusedError:
    message = f"{response.url} gave no answer of this API ({response.headers.get('content-type', 'no content type')})"
    return RefusedError(response.status_code, "not_the_api", message, headers=response.headers)
