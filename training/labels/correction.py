"""Loss correction: cross entropy for trusted labels, and through a corruption matrix for the others (Section 3.3).

A trained network gives the matrix: Gold Loss Correction from the trusted images (Hendrycks et al. 2018), Forward
correction from the untrusted ones alone (Patrini et al. 2017).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.data.image_set import ImageSet, Labels
from training.labels.corruption import Matrix
from training.progress import track
from training.scorer import unit_images
from training.scores import log_probabilities

FORWARD_PERCENTILE = 97
BATCH = 256


def class_probabilities(network: nn.Module, images: ImageSet, device: torch.device) -> NDArray[np.float64]:
    """Return the softmax of the 'label' head for each upright image, not augmented: [N, K], rows sum to 1.

    Puts ``network`` into evaluation mode on ``device``. Raises DataError naming a file that does not decode.
    """
    network.to(device).eval()
    parts = []
    with torch.inference_mode():
        for batch in track(images.batches(BATCH), "estimating the corruption", -(-len(images) // BATCH)):
            views = unit_images(torch.from_numpy(np.ascontiguousarray(batch)).to(device))
            logits = network(views.contiguous(memory_format=torch.channels_last))["label"]
            parts.append(log_probabilities(logits).double().exp().cpu().numpy())
    return np.concatenate(parts)


def gold_estimate(probabilities: Matrix, labels: Labels) -> Matrix:
    """Return GLC's estimate [K, K] of C: row i is the mean of ``probabilities`` [N, K] over the trusted class i.

    ``labels`` [N] are the trusted ones; every class has one at least.
    """
    return np.stack([probabilities[labels == label].mean(axis=0) for label in range(probabilities.shape[1])])


def forward_estimate(probabilities: Matrix) -> Matrix:
    """Return the Forward estimate [K, K] of C from ``probabilities`` [N, K] of the untrusted images.

    Row i is the probabilities of one image: among all, the one at the 97th percentile of p(i), rounded down to an
    image, so that the few most confident ones, which may be outliers, are passed over.
    """
    place = int(FORWARD_PERCENTILE / 100 * (len(probabilities) - 1))
    chosen: Matrix = probabilities[np.argsort(probabilities, axis=0, kind="stable")[place]]
    return chosen


def with_trust(labels: Labels, trusted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return targets int64 [N, 2] for ``CorrectedCrossEntropy``: the label, and 1 if it is trusted, else 0."""
    return np.stack([labels, trusted.astype(np.int64)], axis=1)


class CorrectedCrossEntropy:
    """Mean over a batch of -log p_y for trusted labels y and -log sum_i C[i, y] p_i for the others.

    ``matrix`` C [K, K]: C[i, j] = p(label j is given | i is true). With C = I both terms are the cross entropy.
    """

    def __init__(self, matrix: Matrix) -> None:
        self._log_matrix = torch.from_numpy(np.log(np.maximum(matrix, np.finfo(np.float32).tiny))).float()

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the scalar loss of ``logits`` [N, K] for ``targets`` int64 [N, 2] as ``with_trust`` makes them."""
        labels, trusted = targets[:, 0], targets[:, 1] == 1
        log_p = log_probabilities(logits)
        clean = -log_p.gather(1, labels[:, None])[:, 0]
        given = -torch.logsumexp(log_p + self._log_matrix.to(logits.device).T[labels], dim=1)
        return torch.where(trusted, clean, given).mean()
