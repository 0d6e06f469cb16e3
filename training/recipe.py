"""Recipes: everything a run depends on, read from TOML and checked; no setting has a default outside its file.

A recipe names its network, data, objective, optimiser and evaluation, and the figures the paper prints for it. A scale
file changes settings for a smaller budget; ``--set`` overrides change single ones. An unknown key is refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from training.recipe_tables.attacks import AdversarialEvaluationSettings, AdversarialSettings, TradesSettings
from training.recipe_tables.base import Settings
from training.recipe_tables.corruptions import CorruptionSettings
from training.recipe_tables.labels import LabelSettings
from training.recipe_tables.outliers import OutlierSettings

Scale = Literal["paper", "cpu", "smoke"]
SCALES: tuple[Scale, ...] = ("paper", "cpu", "smoke")


class WideResNetSettings(Settings):
    """A Wide ResNet of ``depth`` 6n + 4 and ``width`` k; ``dropout`` is the share of activations dropped in a block."""

    kind: Literal["wide_resnet"]
    depth: Annotated[int, Field(ge=10)]
    width: Annotated[int, Field(ge=1)]
    dropout: Annotated[float, Field(ge=0, lt=1)]

    @model_validator(mode="after")
    def _whole_blocks(self) -> WideResNetSettings:
        if (self.depth - 4) % 6:
            raise ValueError(f"depth {self.depth} is not 6n + 4 (10, 16, 22, 28, 34, 40, ...)")
        return self


class ResNet18Settings(Settings):
    """ResNet-18, for images of 224 pixels."""

    kind: Literal["resnet18"]


NetworkSettings = Annotated[WideResNetSettings | ResNet18Settings, Field(discriminator="kind")]


class DataSettings(Settings):
    """The training data: a folder of the data root, fitted to ``size`` pixels (``shorter_side`` before the crop).

    ``in_class``: train on this class alone (one-class models). ``limit_per_class``: that many images a class at most,
    0 for all. ``skip_unreadable``: leave out, and name, images that do not decode instead of stopping.
    """

    model_config = ConfigDict(coerce_numbers_to_str=True)  # a class folder may be called 3

    name: Annotated[str, Field(min_length=1)]
    size: Annotated[int, Field(ge=8)]
    shorter_side: Annotated[int, Field(ge=8)]
    in_class: str | None = None
    limit_per_class: Annotated[int, Field(ge=0)] = 0
    skip_unreadable: bool = False

    @model_validator(mode="after")
    def _crop_fits(self) -> DataSettings:
        if self.shorter_side < self.size:
            raise ValueError(f"shorter_side {self.shorter_side} is smaller than size {self.size}")
        return self


class AugmentationSettings(Settings):
    """``flip``: mirror half of the images. ``crop_padding``: crop back to size from this much zero padding (pixels).

    Images that stream from disk are cropped at random from the image resized to ``shorter_side``.
    """

    flip: bool
    crop_padding: Annotated[int, Field(ge=0)]


class ClassificationSettings(Settings):
    """Cross entropy on the labels + ``rotation_weight`` x mean cross entropy of the rotation head (Sections 3.1, 4.1).

    ``rotation_views``: 'all' four rotations of each image, or 'upright_and_one': the upright view and one random
    other, weighted 1/4 and 3/4 so that its expectation is the mean over the four. Weight 0: no rotation head.
    """

    kind: Literal["classification"]
    rotation_weight: Annotated[float, Field(ge=0)]
    rotation_views: Literal["all", "upright_and_one"]


class TransformationSettings(Settings):
    """Predict rotation, vertical and horizontal translation of each view (Section 4.2.1): the mean of three losses.

    Each image is seen under all four rotations of ``translations_per_image`` random translations a step.
    """

    kind: Literal["transformations"]
    order: Literal["rotate_translate", "translate_rotate"]
    translations_per_image: Annotated[int, Field(ge=1, le=9)]


class RotationSettings(Settings):
    """Predict the rotation of each view, all four of each image: RotNet, and the pre-training of Section 3.3."""

    kind: Literal["rotations"]


ObjectiveSettings = Annotated[
    ClassificationSettings | TransformationSettings | RotationSettings | AdversarialSettings | TradesSettings,
    Field(discriminator="kind"),
]


class OptimiserSettings(Settings):
    """SGD with Nesterov momentum; learning rate by cosine per step from ``lr`` to ``lr_end``.

    ``warmup``: share of all steps over which the rate first rises linearly from 0. ``batch`` counts images over all
    devices, not views.
    """

    lr: Annotated[float, Field(gt=0)]
    lr_end: Annotated[float, Field(ge=0)]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    batch: Annotated[int, Field(ge=1)]
    epochs: Annotated[int, Field(ge=1)]


class CalibrationSettings(Settings):
    """Which images calibrate the p-values (design: Calibration).

    'train_holdout': a seeded ``share`` of each training class, ``minimum`` images in all at least, never trained on.
    'test_half': all training images are trained on and a seeded half of the test images calibrates.
    """

    source: Literal["train_holdout", "test_half"]
    share: Annotated[float, Field(gt=0, lt=1)]
    minimum: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0)]


class EvaluationSettings(Settings):
    """``score``: formula of the anomaly score. ``ood``: out-of-distribution sets by name; ``ood_ratio``: out to in.

    ``adversarial``: the attacks of Section 3.1. ``corruptions``: the corrupted images of Section 3.2.
    """

    score: Literal["kl_rotation", "kl", "msp", "transformation"]
    ood: list[str]
    ood_ratio: Annotated[float, Field(gt=0, le=1)]
    limit: Annotated[int, Field(ge=0)] = 0
    adversarial: AdversarialEvaluationSettings | None = None
    corruptions: CorruptionSettings | None = None


class TrainerSettings(Settings):
    """``precision``: a Lightning Fabric precision, or 'auto' (bf16-mixed on CUDA, else 32-true). Times in minutes."""

    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    channels_last: bool
    checkpoint_minutes: Annotated[float, Field(gt=0)]
    log_every: Annotated[int, Field(ge=1)]


class Published(Settings):
    """One figure the paper prints (or, if ``derived``, that follows from printed ones by arithmetic)."""

    metric: str
    value: float
    where: str
    derived: bool = False


class SweepSettings(Settings):
    """One row of a target is the mean over runs with ``key`` (dotted, as --set writes it) at each of ``values``."""

    key: Annotated[str, Field(min_length=1)]
    values: Annotated[list[float | str], Field(min_length=1)]


class Recipe(Settings):
    """One model of the paper (or of a user's own folder) with all its settings.

    ``labels``: corrupt the training labels. ``pretraining``: the optimiser of a first phase, which trains the rotation
    loss alone (Section 3.3). ``sweep``: which settings one row of a target averages over. ``outliers``: Outlier
    Exposure.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    title: str
    section: str
    targets: list[str]
    row: str
    method: str
    network: NetworkSettings
    data: DataSettings
    augmentation: AugmentationSettings
    objective: ObjectiveSettings
    optimiser: OptimiserSettings
    calibration: CalibrationSettings
    evaluation: EvaluationSettings
    trainer: TrainerSettings
    published: list[Published]
    labels: LabelSettings | None = None
    pretraining: OptimiserSettings | None = None
    sweep: SweepSettings | None = None
    outliers: OutlierSettings | None = None
    scale: Scale = "paper"

    @model_validator(mode="after")
    def _parts_fit(self) -> Recipe:
        score = self.evaluation.score
        if isinstance(self.objective, TransformationSettings | RotationSettings):
            if score != "transformation":
                kind = self.objective.kind
                raise ValueError(f"objective {kind!r} is scored by evaluation.score = 'transformation'")
        elif score == "transformation":
            raise ValueError(f"objective {self.objective.kind!r} is scored by 'kl_rotation', 'kl' or 'msp'")
        elif score == "kl_rotation" and self.objective.rotation_weight == 0:
            raise ValueError("evaluation.score = 'kl_rotation' needs objective.rotation_weight above 0")
        if not isinstance(self.objective, TransformationSettings | RotationSettings):
            if self.data.in_class is not None:
                raise ValueError("data.in_class is for one-class objectives; a classifier needs all classes")
        else:
            kind = self.objective.kind
            for table in ("adversarial", "corruptions"):
                if getattr(self.evaluation, table) is not None:
                    raise ValueError(f"table 'evaluation.{table}' is for classifiers, not objective {kind!r}")
        return self

    @model_validator(mode="after")
    def _phases_fit(self) -> Recipe:
        if not isinstance(self.objective, ClassificationSettings):
            for table, given in (("labels", self.labels), ("pretraining", self.pretraining)):
                if given is not None:
                    raise ValueError(f"table {table!r} is for objective 'classification', not {self.objective.kind!r}")
        return self

    @model_validator(mode="after")
    def _outliers_fit(self) -> Recipe:
        if self.outliers is not None:
            if not isinstance(self.objective, ClassificationSettings):
                raise ValueError(f"table 'outliers' is for objective 'classification', not {self.objective.kind!r}")
            if self.labels is not None or self.pretraining is not None:
                raise ValueError("table 'outliers' does not go with 'labels' or 'pretraining'")
        return self

    def settings(self) -> dict[str, Any]:
        """Return all settings as plain data, as a manifest and a run folder record them."""
        return self.model_dump(mode="json")
