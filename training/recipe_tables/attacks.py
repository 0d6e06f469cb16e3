"""The recipe tables of Section 3.1: training under attack, TRADES, and evaluation under attack.

Radii and steps are in 255ths, as the paper writes them: ``epsilon_255 = 8.0`` is 8/255 of the pixel range.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from training.recipe_tables.base import Settings

In255 = Annotated[float, Field(gt=0, le=255)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class TrainingAttackSettings(Settings):
    """PGD while training: ``steps`` of ``step_255`` inside ``epsilon_255`` around the clean image and inside [0, 1].

    ``start``: 'uniform' in the ball (equation 2), or 'gaussian', 0.001 x N(0, 1) (TRADES). ``network_mode``: 'training'
    normalises by each attacked batch and updates the running statistics; 'evaluation' uses the running statistics.
    """

    epsilon_255: In255
    steps: Positive
    step_255: In255
    start: Literal["uniform", "gaussian"]
    network_mode: Literal["training", "evaluation"]


class AdversarySettings(TrainingAttackSettings):
    """What the attack of adversarial training raises: cross entropy + ``rotation_weight`` x rotation cross entropy.

    ``form`` 'separate' (released code): the classifier's upright copy and each rotated copy are perturbed on their own.
    'joint' (the text): one x' an image, whose rotations R_r(x') the rotation head sees; with ``rotation_weight`` 0 the
    classifier alone is attacked.
    """

    form: Literal["separate", "joint"]
    rotation_weight: Annotated[float, Field(ge=0)]


class AdversarialSettings(Settings):
    """Adversarial training (equation 3): cross entropy + ``rotation_weight`` x mean rotation cross entropy, attacked.

    ``rotation_views``: the rotation head sees 'all' four rotations of each image, or 'one', drawn evenly for each image
    and step, whose expected loss is the mean over the four. Weight 0: no rotation head.
    """

    kind: Literal["adversarial"]
    rotation_weight: Annotated[float, Field(ge=0)]
    rotation_views: Literal["all", "one"]
    attack: AdversarySettings

    @model_validator(mode="after")
    def _attack_fits(self) -> AdversarialSettings:
        attack = self.attack
        if self.rotation_weight == 0 and (attack.form != "joint" or attack.rotation_weight > 0):
            raise ValueError("without a rotation head the attack has form = 'joint' and rotation_weight = 0.0")
        if attack.form == "separate" and attack.rotation_weight == 0:
            raise ValueError("attack.form = 'separate' needs attack.rotation_weight above 0")
        return self


class TradesSettings(Settings):
    """TRADES (Zhang et al. 2019): CE(x) + ``beta`` x KL(p(x) || p(x')) + ``rotation_weight`` x rotation CE of R_r(x').

    ``rotation_views`` as for adversarial training. The attack raises the KL divergence.
    """

    kind: Literal["trades"]
    beta: Annotated[float, Field(gt=0)]
    rotation_weight: Annotated[float, Field(ge=0)]
    rotation_views: Literal["all", "one"]
    attack: TrainingAttackSettings


class PgdEvaluationSettings(Settings):
    """PGD of the number of steps in its name, with steps of ``step_255``, on ``images`` test images (0: all)."""

    images: Count
    step_255: In255


class StrengthSettings(Settings):
    """Figure 2: PGD of ``steps`` steps at each radius; a step is ``step_share`` of the radius."""

    images: Count
    steps: Positive
    step_share: Annotated[float, Field(gt=0, le=1)]
    epsilons_255: Annotated[list[In255], Field(min_length=1)]


class SpsaSettings(Settings):
    """SPSA (Uesato et al. 2018): Adam steps of ``step_255`` along a gradient estimated without one.

    The estimate takes ``samples`` random sign directions, each tried at plus and minus ``delta`` (of the range [0, 1]).
    """

    images: Count
    steps: Positive
    step_255: In255
    samples: Positive
    delta: Annotated[float, Field(gt=0, lt=1)]


class MaskingSettings(Settings):
    """Checks for masked gradients on ``images`` test images: PGD over numbers of ``steps``, radii, and ``restarts``."""

    images: Count
    steps: Annotated[list[Positive], Field(min_length=2)]
    epsilons_255: Annotated[list[In255], Field(min_length=2)]
    restarts: Annotated[int, Field(ge=2)]

    @model_validator(mode="after")
    def _ascending(self) -> MaskingSettings:
        for name in ("steps", "epsilons_255"):
            values = getattr(self, name)
            if values != sorted(set(values)):
                raise ValueError(f"{name} {values} must ascend, from the weakest attack to the strongest")
        return self


class AdversarialEvaluationSettings(Settings):
    """Attacks on the trained classifier within ``epsilon_255``; ``seed`` draws their random starts.

    ``auto_attack_images``: how many images AutoAttack attacks, 0 for none; it needs the extra 'attacks'.
    """

    epsilon_255: In255
    seed: Count
    pgd20: PgdEvaluationSettings
    pgd100: PgdEvaluationSettings
    strengths: StrengthSettings
    spsa: SpsaSettings
    masking: MaskingSettings
    auto_attack_images: Count
