"""The work that every contestant but our service does by hand: decode, fit, run the graph, answer.

A person who serves the graph in another framework would write about this. Decoding and fitting are those of
``serving.images.image_file``, and a session on a GPU is ``serving.graphs.providers``'.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from serving.graphs.manifest import INPUT_NAME, METADATA_KEY
from serving.graphs.providers import CPU, open_session
from serving.images.fitting import Fitting
from serving.images.image_file import decode_image, fit_image

TOP_K = 5
Outputs = list[NDArray[np.float32]]


class Work:
    """One graph, ready to run; its methods may be called from several threads at once.

    ``threads`` within one run. ``spinning``: the threads of a run wait busily for each other (ONNX Runtime's default),
    which pays where nothing else wants the cores. ``cuda``: on the GPU, as our service opens it; raises RuntimeError
    where there is none.
    """

    def __init__(self, graph: Path, threads: int, *, spinning: bool = False, cuda: bool = False) -> None:
        if cuda:
            self._session: Any = open_session(graph.read_bytes(), "cuda", threads)
        else:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.log_severity_level = 3
            options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
            self._session = onnxruntime.InferenceSession(graph.read_bytes(), options, providers=[CPU])
        manifest = json.loads(self._session.get_modelmeta().custom_metadata_map[METADATA_KEY])
        self._fitting = Fitting(**manifest["fitting"])
        self._classes: list[str] = manifest["classes"] if manifest["kind"] == "classifier" else []
        self._calibration = np.array(manifest["calibration"]["scores"], np.float32)
        self._wanted = ["probabilities"] if self._classes else ["anomaly_score"]

    def warm(self) -> None:
        """Run one and two blank images, so that the first request finds memory and kernels ready."""
        for batch in (1, 2):
            self.run(np.zeros((batch, self._fitting.size, self._fitting.size, 3), np.uint8))

    def read(self, data: bytes) -> NDArray[np.uint8]:
        """Return the image in a file as the graph takes it, uint8 [size, size, 3]."""
        return self.fit(decode_image(data))

    def fit(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return a decoded RGB image as the graph takes it, uint8 [size, size, 3]."""
        return fit_image(image, self._fitting)

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run uint8 [n, size, size, 3]; return probabilities [n, K] of a classifier, else anomaly scores [n]."""
        [output] = self._session.run(self._wanted, {INPUT_NAME: images})
        result: NDArray[np.float32] = output
        return result

    def answer(self, outputs: NDArray[np.float32]) -> dict[str, Any]:
        """Return what is answered as JSON: of a classifier the five likeliest classes, else score and p-value."""
        return {"results": [self.result(output) for output in outputs]}

    def result(self, output: NDArray[np.float32]) -> dict[str, Any]:
        """Return the answer's part for one image."""
        if not self._classes:
            at_least = self._calibration.size - int(np.searchsorted(self._calibration, output, side="left"))
            return {"score": float(output), "p_value": (1 + at_least) / (self._calibration.size + 1)}
        top = [
            {"label": self._classes[index], "index": index, "probability": float(output[index])}
            for index in np.argsort(-output, kind="stable")[:TOP_K].tolist()
        ]
        return {**top[0], "top": top}

    def answer_file(self, data: bytes) -> dict[str, Any]:
        """Do all of the work for one file."""
        return self.answer(self.run(self.read(data)[None]))


def best_part(answer: dict[str, Any]) -> dict[str, Any]:
    """Return what must agree of an answer, ours or another's: label and probability, or score and p-value."""
    [result] = answer["results"]
    if "transformation" in result:
        [result] = result["transformation"]
    names = ("label", "probability") if "label" in result else ("score", "p_value")
    return {name: result[name] for name in names}


def agrees(answer: dict[str, Any], expected: dict[str, Any], tolerance: float = 1e-4) -> bool:
    """Say whether two answers have the same label, and numbers within ``tolerance`` * max(1, |expected|)."""
    given, wanted = best_part(answer), best_part(expected)
    if given.keys() != wanted.keys():
        return False
    return all(
        given[name] == value if isinstance(value, str) else abs(given[name] - value) <= tolerance * max(1, abs(value))
        for name, value in wanted.items()
    )
