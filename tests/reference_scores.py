"""The paper's scores in plain NumPy, from a bare network: views by rot90 and pad, formulas as printed, float64.

Written apart from the code it checks, and without PyTorch: nothing here may come from ``training``.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.graphs.manifest import Manifest, ViewGridSpec

Float = NDArray[np.float64]


def recompute_scores(manifest: Manifest, network: Any, images: NDArray[np.uint8]) -> dict[str, Float]:
    """Outputs of the graph contract for uint8 [n, size, size, 3], by ``network``, an ONNX Runtime session of it."""
    spec = manifest.view_grid
    views = images[:, None] if spec is None else make_views(images, spec)
    logits = run_network(network, views)
    if manifest.kind == "one_class":
        assert spec is not None
        return transformation_outputs(logits, spec)
    return classifier_outputs(logits, manifest.score)


def make_views(images: NDArray[np.uint8], spec: ViewGridSpec) -> NDArray[np.uint8]:
    """[n, size, size, 3] -> [n, views, size, size, 3], the last axis of the grid fastest."""
    views = []
    for turns, down, right in product(spec.rotations, spec.vertical, spec.horizontal):
        if spec.order == "rotate_translate":
            views.append(shift(np.rot90(images, turns, axes=(1, 2)), down, right))
        else:
            views.append(np.rot90(shift(images, down, right), turns, axes=(1, 2)))
    return np.stack(views, axis=1)


def shift(images: NDArray[np.uint8], down: int, right: int) -> NDArray[np.uint8]:
    height, width = images.shape[1:3]
    pad = max(abs(down), abs(right))
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
    return padded[:, pad - down : pad - down + height, pad - right : pad - right + width]


def run_network(network: Any, views: NDArray[np.uint8]) -> dict[str, Float]:
    """[n, views, size, size, 3] -> logits by head, [n, views, classes]."""
    count, each = views.shape[:2]
    pixels = views.reshape(-1, *views.shape[2:]).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    names = [output.name for output in network.get_outputs()]
    outputs = network.run(names, {"views": pixels})
    return {
        name.removesuffix("_logits"): values.astype(np.float64).reshape(count, each, -1)
        for name, values in zip(names, outputs, strict=True)
    }


def log_softmax(logits: Float) -> Float:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def classifier_outputs(logits: dict[str, Float], score: str) -> dict[str, Float]:
    """Section 4.1, with the released code's sign: -KL[U || p] + mean cross entropy of the four rotations."""
    upright = log_softmax(logits["label"][:, 0])
    probabilities = np.exp(upright)
    uniform = 1 / upright.shape[-1]
    kl_uniform = np.sum(uniform * (np.log(uniform) - upright), axis=-1)
    outputs = {"probabilities": probabilities, "kl_uniform": kl_uniform}
    if "rotation" in logits:
        truth = np.arange(4)
        log_true = log_softmax(logits["rotation"])[:, truth, truth]
        outputs["rotation_loss"] = -log_true.sum(axis=1) / 4
        outputs["view_probabilities"] = np.exp(log_true)
    scores = {"kl": -kl_uniform, "msp": -probabilities.max(axis=-1)}
    if "rotation" in logits:
        scores["kl_rotation"] = -kl_uniform + outputs["rotation_loss"]
    return {**outputs, "anomaly_score": scores[score]}


def transformation_outputs(logits: dict[str, Float], spec: ViewGridSpec) -> dict[str, Float]:
    """Section 4.2.1: the sum over r, s, t of p_rot(r) + p_vert(s) + p_horiz(t), negated."""
    grids = {"rotation": spec.rotations, "vertical": spec.vertical, "horizontal": spec.horizontal}
    shape = [len(grids[axis]) for axis in spec.axes]
    count = len(next(iter(logits.values())))
    view_probabilities = np.empty((count, *shape, len(spec.heads)))
    for view, cell in enumerate(product(*(range(length) for length in shape))):
        for column, head in enumerate(spec.heads):
            true_class = cell[spec.axes.index(head)]
            view_probabilities[(slice(None), *cell, column)] = np.exp(log_softmax(logits[head][:, view]))[:, true_class]
    axes = tuple(range(1, view_probabilities.ndim))
    return {"view_probabilities": view_probabilities, "anomaly_score": -view_probabilities.sum(axis=axes)}
