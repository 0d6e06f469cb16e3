"""Fields: those of the forms of ``/classify`` and ``/anomaly_score``, checked and turned into typed values.

Values are plain text; JSON is understood too, because BentoML's Python client and page send ``"report"`` with its
quotation marks, a list of models as one JSON array, and ``null`` for a field left alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from serving.errors import ApiError
from serving.requests.uploads import Form, Upload

OnError = Literal["fail", "report"]

CLASSIFY_FIELDS = ("model", "top_k", "on_error")
# top_k says nothing about a score; it is taken and checked, so that one set of fields serves both endpoints.
ANOMALY_FIELDS = ("model", "top_k", "on_error", "alpha", "views")

DEFAULT_TOP_K = 5
# Names of models in one request, in one list or in several fields: more than that run is a fault or an attack.
MAX_MODELS = 64


@dataclass(frozen=True)
class ClassifyRequest:
    """A request to ``/classify``: ``top_k`` >= 1 labels an image, ``model`` None for the default classifier."""

    images: Sequence[Upload]
    model: str | None
    top_k: int
    on_error: OnError


@dataclass(frozen=True)
class AnomalyRequest:
    """A request to ``/anomaly_score``: ``alpha`` in (0, 1); no ``models`` for the default ones."""

    images: Sequence[Upload]
    models: tuple[str, ...]
    alpha: float
    views: bool
    on_error: OnError


def classify_request(form: Form) -> ClassifyRequest:
    """Check the fields of a form sent to ``/classify``. Raises ApiError 400, naming the field."""
    models = _models(form)
    if len(models) > 1:
        raise _bad("model", "names one classifier here, and is given more than once")
    return ClassifyRequest(form.images, models[0] if models else None, _top_k(form), _on_error(form))


def anomaly_request(form: Form, default_alpha: float) -> AnomalyRequest:
    """Check the fields of a form sent to ``/anomaly_score``. Raises ApiError 400, naming the field."""
    _top_k(form)
    models = _models(form)
    seen: set[str] = set()
    for name in models:
        if name in seen:
            raise _bad("model", f"names {_shown(name)} more than once")
        seen.add(name)
    alpha = _alpha(form, default_alpha)
    views = _choice(form, "views", ("false", "true"), default="false") == "true"
    return AnomalyRequest(form.images, models, alpha, views, _on_error(form))


def _models(form: Form) -> tuple[str, ...]:
    names: list[str] = []
    for text in form.texts.get("model", []):
        value = _json_or_text("model", text)
        for name in value if isinstance(value, list) else [value]:
            if name is None:
                continue
            if not isinstance(name, str) or not name:
                raise _bad("model", f"takes the name of a model, not {_shown(text)}")
            if len(names) == MAX_MODELS:
                raise _bad("model", f"names more than {MAX_MODELS} models")
            names.append(name)
    return tuple(names)


def _top_k(form: Form) -> int:
    text = _single(form, "top_k")
    if text is None:
        return DEFAULT_TOP_K
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= 1):
        raise _bad("top_k", f"takes a whole number from 1 on, not {_shown(text)}")
    return int(text)


def _alpha(form: Form, default: float) -> float:
    text = _single(form, "alpha")
    if text is None:
        return default
    try:
        alpha = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        alpha = math.nan
    if not 0 < alpha < 1:
        raise _bad("alpha", f"takes a number between 0 and 1, both excluded, not {_shown(text)}")
    return alpha


def _on_error(form: Form) -> OnError:
    return cast(OnError, _choice(form, "on_error", ("fail", "report"), default="fail"))


def _choice(form: Form, name: str, choices: Sequence[str], *, default: str) -> str:
    text = _single(form, name)
    if text is None:
        return default
    if text not in choices:
        raise _bad(name, f"takes {' or '.join(choices)}, not {_shown(text)}")
    return text


def _single(form: Form, name: str) -> str | None:
    texts = form.texts.get(name, [])
    if len(texts) > 1:
        raise _bad(name, "is given more than once")
    if not texts:
        return None
    value = _json_or_text(name, texts[0])
    if isinstance(value, list):
        raise _bad(name, f"takes one value, not {_shown(texts[0])}")
    return value


def _json_or_text(name: str, text: str) -> str | list[object] | None:
    stripped = text.strip()
    if stripped == "null":
        return None
    if stripped[:1] not in ('"', "["):
        return stripped
    try:
        value = json.loads(stripped)
    except (ValueError, RecursionError) as error:
        raise _bad(name, f"looks like JSON and is not: {_shown(text)}") from error
    return cast("str | list[object]", value)


def _bad(name: str, problem: str) -> ApiError:
    return ApiError(400, "bad_field", f"the field {name!r} {problem}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 50 else text[:50] + "...")
