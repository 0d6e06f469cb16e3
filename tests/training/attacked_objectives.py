"""Objectives under attack as their tests build them, with images and a network of which the worst image is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.data.draws import Draws
from training.objectives.adversarial import AdversarialTraining
from training.objectives.trades import Trades
from training.recipe_tables.attacks import AdversarialSettings, TradesSettings

CPU = torch.device("cpu")
SIZE = 8
ATTACK = {"epsilon_255": 8.0, "steps": 3, "step_255": 4.0, "start": "uniform", "network_mode": "training"}


def adversarial(
    weight: float = 0.5, form: str = "separate", attacked: float = 0.5, views: str = "all", **attack: Any
) -> AdversarialTraining:
    table = {**ATTACK, "form": form, "rotation_weight": attacked, **attack}
    settings = AdversarialSettings(kind="adversarial", rotation_weight=weight, rotation_views=views, attack=table)
    return AdversarialTraining(settings, 3, "32-true")


def trades(weight: float = 0.5, views: str = "all", beta: float = 6.0, **attack: Any) -> Trades:
    table = {**ATTACK, "start": "gaussian", "network_mode": "evaluation", **attack}
    settings = TradesSettings(kind="trades", beta=beta, rotation_weight=weight, rotation_views=views, attack=table)
    return Trades(settings, 3, "32-true")


def random_images(count: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(60, 196, (count, 3, SIZE, SIZE), np.uint8))


def draws(count: int, step: int = 0) -> Draws:
    return Draws(0, step, count, CPU)


class Brightness:
    """Two classes by mean brightness, logits (0, 100 x (mean - 1/2)): the worst image is known in closed form."""

    slope = 100.0

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, views: Tensor) -> dict[str, Tensor]:
        self.seen.append(views.detach())
        logit = self.slope * (views.mean(dim=(1, 2, 3)) - 0.5)
        zero = torch.zeros_like(logit)
        return {"label": torch.stack([zero, logit, zero - 1e9], dim=1), "rotation": views[:, 0, :2, :2].flatten(1) * 9}
