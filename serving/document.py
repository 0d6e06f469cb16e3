"""Document: what the API takes and gives, as the models from which BentoML makes its OpenAPI document, page and client.

The service reads requests and writes answers itself (uploads, requests, answers); these models describe them, and a
test holds real answers against them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import bentoml
from pydantic import BaseModel, Field
from starlette.requests import Request

_IMAGES = "PNG, JPEG, WebP, BMP, GIF or TIFF files, judged by their content."
_TOP_K = "Labels an image, likeliest first; cut to the number of classes."
_ON_ERROR = "fail: the first bad image refuses the request. report: it gets an error as its result, the others theirs."

# Status: the codes an endpoint answers with it.
REFUSALS = {
    400: "bad_header, bad_multipart, unknown_field, bad_field, no_images, wrong_kind, or two_classifiers.",
    404: "unknown_model, or no_classifier.",
    413: "request_too_large (bytes), too_many_images, or image_too_large (bytes or pixels).",
    415: "not_multipart, or not_an_image.",
    422: "undecodable_image: which, and why.",
    500: "internal_error: a fault of the server.",
    503: "busy: more requests in flight than the server takes; see Retry-After.",
    504: "timeout.",
}


class _UnreadForm(bentoml.IODescriptor):  # type: ignore[misc]
    """A multipart form that BentoML leaves unread: the API method gets the request itself as ``images``."""

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> bentoml.IODescriptor:
        """Return a model that was not validated, with the unread request in place of the images."""
        return cls.model_construct(images=request)


class ClassifyForm(_UnreadForm):
    """The form of /classify."""

    images: list[Path] = Field(description=_IMAGES)
    model: str | None = Field(None, description="A classifier; by default the server's own.")
    top_k: int = Field(5, description=_TOP_K)
    on_error: Literal["fail", "report"] = Field("fail", description=_ON_ERROR)


class AnomalyForm(_UnreadForm):
    """The form of /anomaly_score."""

    images: list[Path] = Field(description=_IMAGES)
    model: list[str] | None = Field(
        None, description="Models to run, the field repeated; by default the classifier and what the server adds to it."
    )
    alpha: float | None = Field(None, description="False-alarm rate of the whole answer, in (0, 1); 0.05 by default.")
    views: bool = Field(False, description="Add the probability of each view's true transformation.")
    top_k: int = Field(5, description="Without effect here; taken so that one form serves both endpoints.")
    on_error: Literal["fail", "report"] = Field("fail", description=_ON_ERROR)


class ErrorDetail(BaseModel):
    """What went wrong: a code for programs, a message for people, and which image, where one is at fault."""

    code: str
    message: str
    image: int | None = Field(None, description="Zero-based index of the image at fault.")
    filename: str | None = None


class ErrorAnswer(BaseModel):
    """Every refusal."""

    error: ErrorDetail


class ModelName(BaseModel):
    """A model and the sha256 of its file."""

    name: str
    digest: str


class LabelProbability(BaseModel):
    """A class, its place among the model's classes, and its probability."""

    label: str
    index: int
    probability: float | None


class ClassifyResult(BaseModel):
    """One image: the likeliest class, and the likeliest few; or its error, with on_error=report."""

    label: str | None = None
    index: int | None = None
    probability: float | None = None
    top: list[LabelProbability] | None = None
    error: ErrorDetail | None = None


class ClassifyAnswer(bentoml.IODescriptor):  # type: ignore[misc]
    """The answer of /classify, results in the order of the images."""

    model: ModelName
    results: list[ClassifyResult]


class ClassifierScore(BaseModel):
    """The classifier's score of an image: higher is more anomalous, and a lower p-value is."""

    model: str
    digest: str
    score: float | None
    formula: Literal["kl_rotation", "kl", "msp"]
    kl_uniform: float | None
    rotation_loss: float | None
    p_value: float
    calibration_n: int
    is_anomaly: bool


class Views(BaseModel):
    """Probability of each head's true transformation for each view; nested lists by the axes, then the heads."""

    axes: list[str]
    rotations: list[int]
    vertical: list[int]
    horizontal: list[int]
    resizes: list[float]
    heads: list[str]
    probabilities: list[Any]


class OneClassScore(BaseModel):
    """A one-class model's score of an image: higher is more anomalous, and a lower p-value is."""

    model: str
    digest: str
    method: str
    normal: str
    score: float | None
    p_value: float
    calibration_n: int
    is_anomaly: bool
    views: Views | None = None


class AnomalyResult(BaseModel):
    """One image: the verdict of all models that ran, and each one's part; or its error, with on_error=report."""

    is_anomaly: bool | None = None
    kl_rotation: ClassifierScore | None = None
    transformation: list[OneClassScore] | None = None
    error: ErrorDetail | None = None


class AnomalyAnswer(bentoml.IODescriptor):  # type: ignore[misc]
    """The answer of /anomaly_score, results in the order of the images."""

    alpha: float
    results: list[AnomalyResult]
    warnings: list[str] | None = Field(None, description="Models that can never raise the alarm at this alpha.")


def refusal_responses() -> dict[int, dict[str, Any]]:
    """Return the OpenAPI responses of every status a request can be refused with."""
    schema = {"$ref": "#/components/schemas/ErrorAnswer"}
    return {
        status: {"description": meaning, "content": {"application/json": {"schema": schema}}}
        for status, meaning in REFUSALS.items()
    }
