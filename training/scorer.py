"""Scorers: from a uint8 image to the outputs of the graph contract. What evaluation runs is what export writes.

All views are made inside and go through the network as one batch. Images uint8 [N, size, size, 3], RGB; every output is
float32 with N in front; higher ``anomaly_score`` is more anomalous (design: the graph contract).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from training.recipe import Recipe, RotationSettings, TransformationSettings
from training.scores import (
    kl_uniform,
    log_probabilities,
    max_softmax_score,
    rotation_loss,
    transformation_score,
    true_probabilities,
)
from training.views import ViewGrid

ClassifierFormula = Literal["kl_rotation", "kl", "msp"]


def unit_images(images: Tensor) -> Tensor:
    """Turn uint8 [N, H, W, 3] into the network's float32 [N, 3, H, W] in [0, 1]."""
    return images.permute(0, 3, 1, 2).to(torch.float32) / 255


def _view_logits(network: nn.Module, grid: ViewGrid, images: Tensor) -> dict[str, Tensor]:
    """Run all views of ``images`` as one batch: head name -> logits [N, views, classes]."""
    views = grid.all_views(unit_images(images)).flatten(0, 1)
    logits: dict[str, Tensor] = network(views)
    return {head: values.reshape(-1, len(grid), values.shape[-1]) for head, values in logits.items()}


class ClassifierScorer(nn.Module):
    """A classifier's class probabilities and anomaly score (Section 4.1).

    ``network``: float views [M, 3, size, size] in [0, 1] -> {'label': [M, K], 'rotation': [M, 4] if ``grid``}.
    Outputs: probabilities [N, K] and kl_uniform [N] of the upright view; with a ``grid`` of rotations rotation_loss [N]
    and view_probabilities [N, 4]; anomaly_score [N] by ``formula``: kl_rotation = -kl_uniform + rotation_loss,
    kl = -kl_uniform, msp = -max p. Raises ValueError if the formula needs a rotation head and there is none.
    """

    def __init__(self, network: nn.Module, grid: ViewGrid | None, formula: ClassifierFormula) -> None:
        super().__init__()
        if grid is None and formula == "kl_rotation":
            raise ValueError("score 'kl_rotation' needs a rotation head, and this network has none")
        if grid is not None and list(grid.heads) != ["rotation"]:
            raise ValueError(f"a classifier's views are rotations alone, not {list(grid.heads)}")
        self.network = network
        self.grid = grid
        self.formula = formula

    @property
    def views(self) -> int:
        """How many views of an image go through the network."""
        return 1 if self.grid is None else len(self.grid)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Score uint8 [N, size, size, 3]; the outputs are those of the class docstring, in the contract's names."""
        if self.grid is None:
            upright = self.network(unit_images(images))["label"]
            rotations = None
        else:
            logits = _view_logits(self.network, self.grid, images)
            upright = logits["label"][:, 0]
            rotations = logits["rotation"]
        outputs = {"probabilities": log_probabilities(upright).exp(), "kl_uniform": kl_uniform(upright)}
        score = max_softmax_score(upright) if self.formula == "msp" else -outputs["kl_uniform"]
        if rotations is not None:
            outputs["rotation_loss"] = rotation_loss(rotations)
            outputs["view_probabilities"] = torch.diagonal(log_probabilities(rotations), dim1=-2, dim2=-1).exp()
            if self.formula == "kl_rotation":
                score = score + outputs["rotation_loss"]
        outputs["anomaly_score"] = score
        return outputs


class TransformationScorer(nn.Module):
    """How well a network tells which transformation each view underwent (Section 4.2.1, and RotNet).

    ``network``: float views [M, 3, size, size] in [0, 1] -> one logit tensor for each head of ``grid``. Outputs:
    view_probabilities [N, *grid.shape, heads], the probability of each head's true class; anomaly_score [N] = minus
    their sum.
    """

    labels: Tensor

    def __init__(self, network: nn.Module, grid: ViewGrid) -> None:
        super().__init__()
        self.network = network
        self.grid = grid
        self.register_buffer("labels", grid.labels(), persistent=False)

    @property
    def views(self) -> int:
        """How many views of an image go through the network."""
        return len(self.grid)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Score uint8 [N, size, size, 3]; the outputs are those of the class docstring."""
        logits = _view_logits(self.network, self.grid, images)
        probabilities = true_probabilities({head: logits[head] for head in self.grid.heads}, self.labels)
        return {
            "view_probabilities": probabilities.reshape(-1, *self.grid.shape, len(self.grid.heads)),
            "anomaly_score": transformation_score(probabilities),
        }


Scorer = ClassifierScorer | TransformationScorer


def view_grid(recipe: Recipe) -> ViewGrid | None:
    """Return the views that the recipe's network is scored on; None for a classifier without a rotation head."""
    if isinstance(recipe.objective, TransformationSettings):
        return ViewGrid.transformations(recipe.data.size, recipe.objective.order)
    if isinstance(recipe.objective, RotationSettings):
        return ViewGrid()
    return ViewGrid() if recipe.objective.rotation_weight > 0 else None


def build_scorer(network: nn.Module, recipe: Recipe) -> Scorer:
    """Return the scorer of the recipe's network, in evaluation mode."""
    grid, formula = view_grid(recipe), recipe.evaluation.score
    scorer: Scorer
    if formula == "transformation":
        assert grid is not None
        scorer = TransformationScorer(network, grid)
    else:
        scorer = ClassifierScorer(network, grid, formula)
    return scorer.eval()
