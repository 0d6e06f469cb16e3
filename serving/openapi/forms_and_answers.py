"""Forms and answers: what the API takes and gives, as the models of which BentoML makes its document, page and client.

The service reads requests and writes answers itself (uploads, requests, answers); these models describe them, and a
test holds real answers against them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import bentoml
from pydantic import BaseModel, Field
from starlette.requests import Request

from serving.graphs.manifest import Kind, Precision, ScoreFormula, TrainingData, ViewGridSpec
from serving.images.fitting import Fitting

_IMAGES = "PNG, JPEG, WebP, BMP, GIF or TIFF files, judged by their content."
_TOP_K = "Labels an image, likeliest first; cut to the number of classes."
_RESULTS = "One result an image; with on_error=report, a bad image's is its error."
_ON_ERROR = "fail: the first bad image refuses the request. report: it gets an error as its result, the others theirs."


class _UnreadForm(bentoml.IODescriptor):  # type: ignore[misc]
    """A multipart form that BentoML leaves unread: the API method gets the request itself as ``images``."""

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> bentoml.IODescriptor:
        """Return a model that was not validated, with the unread request in place of the images."""
        return cls.model_construct(images=request)


class ClassifyForm(_UnreadForm):
    """The form of /classify."""

    images: list[Path] = Field(description=_IMAGES, min_length=1)
    model: str | None = Field(
        None, description="A classifier; by default the server's own.", examples=["cifar10-rotations"], min_length=1
    )
    top_k: int = Field(5, ge=1, lt=1_000_000_000, description=_TOP_K, examples=[3])
    on_error: Literal["fail", "report"] = Field("fail", description=_ON_ERROR)


class AnomalyForm(_UnreadForm):
    """The form of /anomaly_score."""

    images: list[Path] = Field(description=_IMAGES, min_length=1)
    model: list[Annotated[str, Field(min_length=1)]] | None = Field(
        None,
        description="Models to run, the field repeated; by default the classifier and what the server adds to it.",
        examples=[["cifar10-rotations", "cifar10-transformations"]],
    )
    alpha: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="False-alarm rate of the whole answer; by default the server's own, 0.05 where it has none.",
        examples=[0.01],
    )
    views: bool = Field(False, description="Add the probability of each view's true transformation.")
    top_k: int = Field(
        5,
        ge=1,
        lt=1_000_000_000,
        description="Without effect here; taken so that one form serves both endpoints.",
    )
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


class ClassifyResult(LabelProbability):
    """One image: the likeliest class, and the likeliest few in descending order."""

    top: list[LabelProbability]


class ClassifyAnswer(bentoml.IODescriptor):  # type: ignore[misc]
    """The answer of /classify, results in the order of the images."""

    model: ModelName
    results: list[ClassifyResult | ErrorAnswer] = Field(description=_RESULTS)


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
    """One image: the verdict of all models that ran, and each one's part; kl_rotation null where no classifier ran."""

    is_anomaly: bool
    kl_rotation: ClassifierScore | None
    transformation: list[OneClassScore]


class AnomalyAnswer(bentoml.IODescriptor):  # type: ignore[misc]
    """The answer of /anomaly_score, results in the order of the images."""

    alpha: float
    results: list[AnomalyResult | ErrorAnswer] = Field(description=_RESULTS)
    warnings: list[str] | None = Field(None, description="Models that can never raise the alarm at this alpha.")


class PublicRecipe(BaseModel):
    """The recipe a model was trained with."""

    name: str
    scale: str


class PublicCalibration(BaseModel):
    """The scores of ``n`` normal images: their quantiles, evenly spaced from the least to the greatest."""

    n: int
    data: str
    split: str
    digest: str
    quantiles: list[float] = Field(min_length=101, max_length=101)


class PublicManifest(BaseModel):
    """What a model says about itself: its manifest without settings, libraries and raw calibration scores."""

    digest: str = Field(description="sha256 of the model's file.")
    name: str
    kind: Kind
    method: str
    score: ScoreFormula
    classes: list[str]
    normal: str | None
    fitting: Fitting
    view_grid: ViewGridSpec | None
    recipe: PublicRecipe
    network: str
    precision: Precision
    training_data: TrainingData
    metrics: dict[str, Any] = Field(description="Figures of the evaluation after training, by name.")
    calibration: PublicCalibration


class DefaultModels(BaseModel):
    """Names of the models that run where a request names none."""

    classifier: str | None
    one_class: list[str]


class ModelsAnswer(BaseModel):
    """The answer of /models, by name."""

    default: DefaultModels
    models: list[PublicManifest]
