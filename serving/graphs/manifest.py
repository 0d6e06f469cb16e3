"""The manifest: what an exported graph says about itself, as JSON in its ONNX metadata.

Export (``training``) writes it and serving reads it; this module is the one definition of its fields. The graph's own
inputs and outputs are described in docs/graph-contract.md.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from serving.images.fitting import Fitting

SCHEMA_VERSION = 1
METADATA_KEY = "quarterturn"
INPUT_NAME = "images"

Kind = Literal["classifier", "one_class"]
Precision = Literal["fp32", "fp16", "int8"]
ScoreFormula = Literal["kl_rotation", "kl", "msp", "transformation", "method"]
ViewAxis = Literal["rotation", "vertical", "horizontal", "resize"]

# Outputs that a graph must have, by the formula of its score.
_CLASSIFIER_OUTPUTS = ("probabilities", "kl_uniform", "anomaly_score")
REQUIRED_OUTPUTS: dict[str, tuple[str, ...]] = {
    "kl_rotation": (*_CLASSIFIER_OUTPUTS, "rotation_loss", "view_probabilities"),
    "kl": _CLASSIFIER_OUTPUTS,
    "msp": _CLASSIFIER_OUTPUTS,
    "transformation": ("anomaly_score", "view_probabilities"),
    "method": ("anomaly_score",),  # a one-class method that recognises no transformations, by a formula of its own
}


class ManifestError(ValueError):
    """A manifest that is absent, damaged, of an unknown schema version, or lacks a field."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ViewGridSpec(_Part):
    """The views the graph makes of an image, in order (design: Views).

    ``rotations`` in quarter turns counter-clockwise; ``vertical`` and ``horizontal`` translations in pixels, positive
    down and to the right, borders reflected; ``resizes`` factors by which a view is scaled and brought back, 1: not.
    ``axes`` name the grid axes of ``view_probabilities`` between the batch and the heads, ``heads`` its last axis.
    """

    rotations: list[int]
    vertical: list[int]
    horizontal: list[int]
    resizes: list[float] = [1.0]
    order: Literal["rotate_translate", "translate_rotate"]
    axes: list[ViewAxis]
    heads: list[ViewAxis]

    def axis_lengths(self) -> tuple[int, ...]:
        """Return how many values each of ``axes`` has: (4, 3, 3) for four rotations and three translations each way."""
        lengths = {
            "rotation": len(self.rotations),
            "vertical": len(self.vertical),
            "horizontal": len(self.horizontal),
            "resize": len(self.resizes),
        }
        return tuple(lengths[axis] for axis in self.axes)

    @property
    def views(self) -> int:
        """How many views the graph makes of an image."""
        return len(self.rotations) * len(self.vertical) * len(self.horizontal) * len(self.resizes)


class TrainingData(_Part):
    """What the network was trained on. ``digest`` is of the whole training split; ``count`` of those trained on."""

    name: str
    split: str
    digest: str
    available: int
    count: int
    in_class: str | None = None


class Calibration(_Part):
    """Anomaly scores of ``n`` images the network never saw, ascending: the yardstick of every p-value."""

    n: Annotated[int, Field(gt=0)]
    scores: Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=1)]
    data: str
    split: str
    digest: str

    @model_validator(mode="after")
    def _ascending_and_counted(self) -> Calibration:
        if len(self.scores) != self.n:
            raise ValueError(f"calibration has {len(self.scores)} scores but says n = {self.n}")
        if any(later < earlier for earlier, later in zip(self.scores, self.scores[1:], strict=False)):
            raise ValueError("calibration scores are not ascending")
        return self


class RecipeRecord(_Part):
    """The recipe a graph was trained with: its name, scale, and every resolved setting."""

    name: str
    scale: str
    settings: dict[str, Any]


class Manifest(_Part):
    """Everything a server or a person needs to know of one graph. Higher ``anomaly_score`` is more anomalous."""

    schema_version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    kind: Kind
    method: str
    score: ScoreFormula
    classes: list[str]
    normal: str | None
    fitting: Fitting
    view_grid: ViewGridSpec | None
    recipe: RecipeRecord
    network: str
    precision: Precision
    training_data: TrainingData
    metrics: dict[str, Any]
    calibration: Calibration
    libraries: dict[str, str]
    source_revision: str

    @model_validator(mode="after")
    def _kind_agrees(self) -> Manifest:
        if self.kind == "classifier":
            if len(self.classes) < 2:
                raise ValueError("a classifier needs at least two classes")
            if self.score in ("transformation", "method"):
                raise ValueError("a classifier's score is kl_rotation, kl or msp")
        elif self.normal is None:
            raise ValueError("a one_class graph must say what is normal")
        elif self.score not in ("transformation", "method"):
            raise ValueError("a one_class graph's score is transformation or method")
        if self.score in ("kl_rotation", "transformation") and self.view_grid is None:
            raise ValueError(f"score {self.score} needs a view grid")
        return self

    @property
    def views(self) -> int:
        """How many views of an image go through the network in one run: 1 without a view grid."""
        return self.view_grid.views if self.view_grid else 1

    def required_outputs(self) -> tuple[str, ...]:
        """Names of the outputs that the graph must have for its score."""
        return REQUIRED_OUTPUTS[self.score]

    def output_shape(self, output: str) -> tuple[int, ...]:
        """Return the shape of an output after its batch axis (design: The graph contract)."""
        if output == "probabilities":
            return (len(self.classes),)
        if output == "view_probabilities" and self.view_grid is not None:
            if self.kind == "classifier":
                return (len(self.view_grid.rotations),)
            return (*self.view_grid.axis_lengths(), len(self.view_grid.heads))
        return ()


def dump_manifest(manifest: Manifest) -> str:
    """Return the manifest as the JSON string that goes into the ONNX metadata under ``METADATA_KEY``."""
    return manifest.model_dump_json()


def parse_manifest(text: str | None) -> Manifest:
    """Read a manifest from its JSON string.

    Raises ManifestError when ``text`` is None (no Quarterturn graph), is not JSON, has an unknown schema version,
    lacks a field or has one too many; the message names the field.
    """
    if text is None:
        raise ManifestError(f"no {METADATA_KEY!r} entry in the ONNX metadata: not a graph exported by Quarterturn")
    try:
        version = _Version.model_validate_json(text).schema_version
    except ValidationError as error:
        raise ManifestError(f"manifest is damaged: {_first_problem(error)}") from error
    if version != SCHEMA_VERSION:
        raise ManifestError(f"manifest has schema version {version}; this release reads version {SCHEMA_VERSION}")
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise ManifestError(f"manifest is not valid: {_first_problem(error)}") from error


class _Version(BaseModel):
    schema_version: int


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(step) for step in problem["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where + ': ' if where else ''}{problem['msg']}{more}"
