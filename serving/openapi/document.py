"""Document: the operations, answers, refusals, headers and keys of the API, as parts of an OpenAPI 3.1 document."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serving.openapi.examples import CLASSIFIED, MODELS, SCORED
from serving.openapi.forms_and_answers import (
    AnomalyAnswer,
    AnomalyForm,
    ClassifyAnswer,
    ClassifyForm,
    ErrorAnswer,
    ModelsAnswer,
)
from serving.openapi.refusals import REFUSALS

VERSION = "3.1.0"
# Of this API: raised when an answer changes in a way that a client has to know of.
API_VERSION = "1"
DESCRIPTION = """What is in an image, and is it like anything the models were trained on?

Every refusal has the form `{"error": {"code", "message", "image"?, "filename"?}}`. A higher score is more anomalous; a
p-value says what share of unseen normal images scores at least as high.
"""
_IMAGE_TYPES = "image/png, image/jpeg, image/webp, image/bmp, image/gif, image/tiff"
_HEADERS = {
    "X-Request-ID": (
        "The request's number in the server's log: the client's own, where it sent a plain word.",
        "string",
    ),
    "Retry-After": ("Seconds after which to try again.", "integer"),
    "Allow": ("The methods that the path takes.", "string"),
    "WWW-Authenticate": ("How to bring the key.", "string"),
}
# Headers of a status beside X-Request-ID.
_HEADERS_OF = {401: ("WWW-Authenticate",), 405: ("Allow",)}
_ANSWERS: tuple[type[BaseModel], ...] = (ClassifyAnswer, AnomalyAnswer, ModelsAnswer, ErrorAnswer)
# Answers whose optional fields are left out rather than null.
_LEAVE_OUT_NULLS = ("AnomalyAnswer", "ErrorDetail", "OneClassScore")

Part = dict[str, Any]


def components() -> Part:
    """Return what the operations refer to: schemas, headers, the answers of refusals, and the ways to bring a key."""
    _, schemas = models_json_schema(
        [(answer, "serialization") for answer in _ANSWERS], ref_template="#/components/schemas/{model}"
    )
    return {
        "schemas": {
            name: _without_nulls(schema) if name in _LEAVE_OUT_NULLS else schema
            for name, schema in schemas["$defs"].items()
        },
        "headers": {
            name: {"description": description, "schema": {"type": kind}}
            for name, (description, kind) in _HEADERS.items()
        },
        "responses": {str(status): _refusal(status) for status in sorted({refusal.status for refusal in REFUSALS})},
        "securitySchemes": {
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "bearer": {"type": "http", "scheme": "bearer"},
        },
    }


def paths(service: str) -> dict[str, Part]:
    """Return the operations by path, each as ``{"get" or "post": operation}``; ``service`` begins their ids."""
    classify = _post(
        f"{service}__classify",
        "The likeliest classes of each image, and their probabilities.",
        ClassifyForm,
        _json("The classes of each image, in order.", ClassifyAnswer, CLASSIFIED),
    )
    score = _post(
        f"{service}__anomaly_score",
        "How unlike the training data each image is: scores, p-values and a verdict at a false-alarm rate.",
        AnomalyForm,
        _json("The scores of each image, in order.", AnomalyAnswer, SCORED),
    )
    models = {
        "operationId": f"{service}__models",
        "summary": "The models that are loaded, which of them run by default, and what each manifest says.",
        "tags": ["Service APIs"],
        "security": _security(),
        "responses": {"200": _json("The models.", ModelsAnswer, MODELS), **_refusals(400, 401, 405, 431, 500)},
    }
    return {
        "/classify": {"post": classify},
        "/anomaly_score": {"post": score},
        "/models": {"get": models},
        "/livez": {"get": _check("Is the server alive?")},
        "/readyz": {"get": _check("Is it ready for requests?", 503)},
        "/healthz": {"get": _check("As /livez.")},
        "/metrics": {"get": _check("Figures for Prometheus, as text.", 401, key=True)},
    }


def _post(name: str, summary: str, form: type[BaseModel], answer: Part) -> Part:
    media = {"schema": form_schema(form), "encoding": {"images": {"contentType": _IMAGE_TYPES}}}
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["Service APIs"],
        "security": _security(),
        "requestBody": {"required": True, "content": {"multipart/form-data": media}},
        "responses": {"200": answer, **_refusals(*sorted({refusal.status for refusal in REFUSALS}))},
    }


def _check(summary: str, *refused: int, key: bool = False) -> Part:
    operation: Part = {"summary": summary, "tags": ["Infrastructure"]}
    operation["responses"] = {
        "200": {
            "description": "Yes." if summary.endswith("?") else "As said.",
            "headers": _headers("X-Request-ID"),
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **_refusals(400, *refused, 405, 431),
    }
    return operation | {"security": _security()} if key else operation


def form_schema(form: type[BaseModel]) -> Part:
    """Return the schema of a multipart form: files are binary text, and what may be left out has no null."""
    properties = _without_nulls(form.model_json_schema()["properties"])
    properties["images"]["items"] = {"type": "string", "format": "binary"}
    return {"type": "object", "properties": properties, "required": ["images"], "additionalProperties": False}


def _json(description: str, answer: type[BaseModel], example: object) -> Part:
    media = {"schema": {"$ref": f"#/components/schemas/{answer.__name__}"}, "example": example}
    return {
        "description": description,
        "headers": _headers("X-Request-ID"),
        "content": {"application/json": media},
    }


def _refusals(*statuses: int) -> dict[str, Part]:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses}


def _refusal(status: int) -> Part:
    refusals = [refusal for refusal in REFUSALS if refusal.status == status]
    examples = {refusal.code: {"summary": refusal.when, "value": refusal.example()} for refusal in refusals}
    media = {"schema": {"$ref": f"#/components/schemas/{ErrorAnswer.__name__}"}, "examples": examples}
    # A server that is not ready does not know when it will be: Retry-After comes with "busy" only.
    headers = _headers("X-Request-ID", *_HEADERS_OF.get(status, ()))
    if status == 503:
        headers |= _headers("Retry-After")
    if status == 431:  # answered below what numbers requests
        del headers["X-Request-ID"]
    return {
        "description": " ".join(f"`{refusal.code}`: {refusal.when}" for refusal in refusals),
        "headers": headers,
        "content": {"application/json": media},
    }


def _headers(*names: str) -> dict[str, Part]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _security() -> list[Part]:
    """A server may be without a key; with one, either way to bring it does."""
    return [{}, {"key": []}, {"bearer": []}]


def _without_nulls(schema: Part) -> Part:
    """Say that what is null by default is left out, of an answer or of a form, and is never null."""
    shown: Part = {name: _without_nulls(value) if isinstance(value, dict) else value for name, value in schema.items()}
    if "default" in shown and shown["default"] is None:
        del shown["default"]
        choices = [choice for choice in shown.pop("anyOf", []) if choice != {"type": "null"}]
        shown |= choices[0] if len(choices) == 1 else {"anyOf": choices} if choices else {}
    return shown
