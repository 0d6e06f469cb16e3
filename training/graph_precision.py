"""The scorer's graph in each precision that export offers: fp32, fp16, int8.

In all of them the input is uint8, the outputs are float32, and the heads, log-softmax, cross entropy, KL and the means
over views are computed in float32: what is less precise is the network up to its penultimate vector.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch import Tensor, nn

from serving.graphs.manifest import Precision
from training.data.image_set import ImageSet
from training.graph_runner import images_per_run
from training.onnx_graph import scorer_graph
from training.quantisation import quantised_graph
from training.recipe import Recipe
from training.scorer import build_scorer, view_grid
from training.training_run import in_distribution, load_split, training_indices

# Largest |difference| / max(1, |value|) of a graph's outputs from the float32 PyTorch module's on real images. At int8
# a single output may be any finite distance off: what is limited is the loss (training/precision_change.py).
TOLERANCES: dict[Precision, float] = {"fp32": 1e-4, "fp16": 2e-2, "int8": math.inf}

RANGE_IMAGES = 200
RANGE_SEED = 0


class HalfNetwork(nn.Module):
    """A copy of a network that computes its penultimate vector in float16 and its heads in float32.

    Input float [N, 3, H, W] in [0, 1]; output float32 logits of each head, as the network's own. ``network`` has the
    parts ``features`` and ``heads``, as all of ``training.networks`` do.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = copy.deepcopy(network).half()
        self.network.heads.float()

    def forward(self, views: Tensor) -> dict[str, Tensor]:
        """Return the logits of each head, [N, classes of the head]."""
        logits: dict[str, Tensor] = self.network.heads(self.network.features(views.half()).float())
        return logits


def precision_graph(
    reference: onnx.ModelProto,
    network: nn.Module,
    recipe: Recipe,
    precision: Precision,
    data_root: Path,
    trained: Mapping[str, Any],
) -> onnx.ModelProto:
    """Return the graph of the recipe's scorer in ``precision``, without a manifest; ``reference`` is the one in fp32.

    int8 takes the ranges of its activations from the ``range_images`` of ``data_root``; ``trained`` as there. Raises
    DataError, RunError, ExportError.
    """
    if precision == "fp16":
        return scorer_graph(build_scorer(HalfNetwork(network).eval(), recipe), recipe.data.size)
    if precision == "int8":
        grid = view_grid(recipe)
        batch = images_per_run(1 if grid is None else len(grid), recipe.data.size, on_cpu=True)
        return quantised_graph(reference, range_images(recipe, data_root, trained), batch)
    return reference


def range_images(recipe: Recipe, data_root: Path, trained: Mapping[str, Any] | None) -> ImageSet:
    """Return RANGE_IMAGES of the images trained on (all, if fewer), drawn by a fixed seed.

    ``trained``: the run's training record, None for a recipe alone. Raises DataError; RunError if the data root no
    longer holds what the run was trained on.

    None of them calibrates p-values: an image that has shaped the graph is no longer like a new one.
    """
    normal = in_distribution(recipe, load_split(recipe, data_root, "train", trained))
    trained_on = normal.take(training_indices(recipe, normal)[0])
    drawn = np.random.default_rng(RANGE_SEED).permutation(len(trained_on))[:RANGE_IMAGES]
    return trained_on.take(np.sort(drawn))
