"""Client answers: the types of what ``serving.client`` returns, which is the JSON of docs/http-api.md as it came.

Higher scores are more anomalous; p-values are in (0, 1], and a low one is anomalous. A probability or a score is None
where the model gave none that is finite.
"""

from typing import Any, Generic, Literal, NotRequired, TypedDict, TypeVar, final

ResultT = TypeVar("ResultT")


class ErrorDetail(TypedDict):
    """What is wrong with an image: a code for programs, a message for people, its zero-based index, its file name."""

    code: str
    message: str
    image: NotRequired[int]
    filename: NotRequired[str]


@final
class BadImage(TypedDict):
    """What stands in the place of a bad image's result, with ``on_error="report"``."""

    error: ErrorDetail


class ModelName(TypedDict):
    """A model and the sha256 of its file."""

    name: str
    digest: str


class LabelProbability(TypedDict):
    """A class, its place among the model's classes, and its probability in [0, 1]."""

    label: str
    index: int
    probability: float | None


@final
class ClassifyResult(TypedDict):
    """One image: its likeliest class, and the likeliest few in descending order."""

    label: str
    index: int
    probability: float | None
    top: list[LabelProbability]


class ClassifyAnswer(TypedDict, Generic[ResultT]):
    """The answer of ``classify``: one result an image, in their order."""

    model: ModelName
    results: list[ResultT]


class ClassifierScore(TypedDict):
    """What the classifier says of an image; ``rotation_loss`` is None for one without a rotation head."""

    model: str
    digest: str
    score: float | None
    formula: Literal["kl_rotation", "kl", "msp"]
    kl_uniform: float | None
    rotation_loss: float | None
    p_value: float
    calibration_n: int
    is_anomaly: bool


class Views(TypedDict):
    """Probability of each head's true transformation: nested lists by ``axes``, then ``heads``."""

    axes: list[str]
    rotations: list[int]
    vertical: list[int]
    horizontal: list[int]
    resizes: list[float]
    heads: list[str]
    probabilities: list[Any]


class OneClassScore(TypedDict):
    """What a one-class model says of an image; ``views`` where they were asked for and the model has them."""

    model: str
    digest: str
    method: str
    normal: str
    score: float | None
    p_value: float
    calibration_n: int
    is_anomaly: bool
    views: NotRequired[Views]


@final
class AnomalyResult(TypedDict):
    """One image: the verdict of all models that ran, what the classifier says (None if none ran), and the others."""

    is_anomaly: bool
    kl_rotation: ClassifierScore | None
    transformation: list[OneClassScore]


class AnomalyAnswer(TypedDict, Generic[ResultT]):
    """The answer of ``anomaly_score``: one result an image, in their order.

    ``warnings`` where a model can never raise the alarm at this alpha.
    """

    alpha: float
    results: list[ResultT]
    warnings: NotRequired[list[str]]


class DefaultModels(TypedDict):
    """Which models run where a request names none."""

    classifier: str | None
    one_class: list[str]


class ModelsAnswer(TypedDict):
    """The answer of ``models``: what runs by default, and the public part of every model's manifest."""

    default: DefaultModels
    models: list[dict[str, Any]]
