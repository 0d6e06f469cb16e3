"""Scoring many images with an exported graph: evaluation and calibration measure what ships.

On two cores ONNX Runtime ran the 36 views of WRN 10-1, 10-2 and 16-1 1.2 to 1.4 times as fast as PyTorch in
channels-last layout, the best batch for each (random weights, 2.5 s a trial).
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.graphs.manifest import INPUT_NAME
from serving.graphs.providers import CPU, ProviderChoice, available_cores, open_session
from training.data.image_set import Images, ImageSet
from training.progress import track

Outputs = dict[str, NDArray[np.float32]]

# Pixels of all views in one run: a larger batch gains nothing on a CPU and leaves its caches. On a GPU no tensor within
# a network then has 2^31 elements, of which kernels lose count.
VIEW_PIXELS_PER_RUN_CPU = 256 * 32 * 32
VIEW_PIXELS_PER_RUN_GPU = 4096 * 32 * 32


def images_per_run(views: int, size: int, *, on_cpu: bool) -> int:
    """Return how many images of ``size`` x ``size`` pixels, of so many views each, go into a run: at least one."""
    return max(1, (VIEW_PIXELS_PER_RUN_CPU if on_cpu else VIEW_PIXELS_PER_RUN_GPU) // (views * size**2))


class GraphRunner:
    """A graph in memory, ready to score, ``batch`` images in a run; ``views`` is how many views it makes of each."""

    def __init__(self, model: bytes, views: int, device: ProviderChoice = "auto") -> None:
        asked = os.environ.get("OMP_NUM_THREADS", "")  # as PyTorch reads it: jobs side by side share the cores
        self._threads = max(1, min(available_cores(), int(asked))) if asked.isdigit() else available_cores()
        self._session: Any = open_session(model, device, self._threads)
        self._names = [output.name for output in self._session.get_outputs()]
        self.is_on_cpu = self._session.get_providers()[0] == CPU
        self.batch = images_per_run(views, self._session.get_inputs()[0].shape[1], on_cpu=self.is_on_cpu)

    @property
    def device(self) -> str:
        """Where the graph runs, in words."""
        return f"ONNX Runtime, CPU, {self._threads} threads" if self.is_on_cpu else "ONNX Runtime, CUDA"

    def run(self, images: Images) -> Outputs:
        """Score uint8 [n, size, size, 3] in one run; outputs in the contract's names, n in front."""
        return dict(zip(self._names, self._session.run(self._names, {INPUT_NAME: images}), strict=True))

    def score(self, images: ImageSet, description: str) -> Outputs:
        """Score all ``images`` in batches behind a progress bar. Raises DataError naming one that does not decode."""
        return self.score_and_digest(images, description)[0]

    def score_and_digest(self, images: ImageSet, description: str) -> tuple[Outputs, str]:
        """Score all ``images`` and return, too, the digest of their pixels in this order ('sha256:...')."""
        digest = hashlib.sha256()
        parts: list[Outputs] = []
        batches = -(-len(images) // self.batch)
        for batch in track(images.batches(self.batch), description, batches):
            digest.update(np.ascontiguousarray(batch).data)
            parts.append(self.run(batch))
        joined = {name: np.concatenate([part[name] for part in parts]) for name in self._names}
        return joined, f"sha256:{digest.hexdigest()}"
