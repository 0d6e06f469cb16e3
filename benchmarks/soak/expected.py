"""What the server must answer, computed in this process from the same graphs, with ONNX Runtime and nothing between."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from serving.graphs.manifest import INPUT_NAME, METADATA_KEY
from serving.images.fitting import Fitting
from serving.images.image_file import read_image

TOLERANCE = 1e-4


class Graphs:
    """The graphs of a models folder, by name."""

    def __init__(self, models: Path) -> None:
        self._sessions: dict[str, Any] = {}
        self._manifests: dict[str, Any] = {}
        for path in sorted(models.glob("*/model.onnx")):
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            manifest = json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
            self._sessions[manifest["name"]], self._manifests[manifest["name"]] = session, manifest

    def outputs(self, name: str, image: bytes) -> dict[str, Any]:
        """Run a graph on one image file; return its outputs without the batch axis."""
        session = self._sessions[name]
        pixels = read_image(image, Fitting(**self._manifests[name]["fitting"]))
        names = [output.name for output in session.get_outputs()]
        return {key: value[0] for key, value in zip(names, session.run(names, {INPUT_NAME: pixels[None]}), strict=True)}

    def label(self, name: str, index: int) -> str:
        """Return the name of a classifier's class."""
        classes: list[str] = self._manifests[name]["classes"]
        return classes[index]


class Expectation:
    """What an answer with status 200 must say of each image: None of one that is bad.

    Computed once for each image and graph that an answer names, so that the defaults are the server's to choose.
    """

    def __init__(self, graphs: Graphs, images: Sequence[bytes | None]) -> None:
        self._graphs = graphs
        self._images = images
        self._known: dict[tuple[int, str], dict[str, Any]] = {}

    def problem(self, answer: Mapping[str, Any]) -> str | None:
        """Say what is wrong with an answer of /classify or /anomaly_score; None if nothing is."""
        results = answer.get("results", [])
        if len(results) != len(self._images):
            return f"{len(results)} results for {len(self._images)} images"
        for index, (result, image) in enumerate(zip(results, self._images, strict=True)):
            if image is None:
                problem = None if result.get("error", {}).get("image") == index else f"no error: {result}"
            elif "model" in answer:
                problem = self._class_problem(index, answer["model"]["name"], result)
            else:
                problem = self._score_problem(index, result)
            if problem:
                return f"image {index}: {problem}"
        return None

    def _class_problem(self, index: int, name: str, result: Mapping[str, Any]) -> str | None:
        probabilities = self._outputs(index, name)["probabilities"]
        best = int(np.argmax(probabilities))
        if result.get("label") != self._graphs.label(name, best):
            return f"label {result.get('label')!r}, expected {self._graphs.label(name, best)!r}"
        return _difference("probability", result.get("probability"), float(probabilities[best]))

    def _score_problem(self, index: int, result: Mapping[str, Any]) -> str | None:
        scored = [part for part in (result.get("kl_rotation"), *result.get("transformation", [])) if part is not None]
        if not scored:
            return f"no score: {result}"
        differences = (
            _difference(part["model"], part["score"], float(self._outputs(index, part["model"])["anomaly_score"]))
            for part in scored
        )
        return next((difference for difference in differences if difference), None)

    def _outputs(self, index: int, name: str) -> dict[str, Any]:
        if (index, name) not in self._known:
            image = self._images[index]
            assert image is not None
            self._known[index, name] = self._graphs.outputs(name, image)
        return self._known[index, name]


def _difference(what: str, given: object, wanted: float) -> str | None:
    if isinstance(given, float | int) and abs(given - wanted) <= TOLERANCE * max(1.0, abs(wanted)):
        return None
    return f"{what}: {given}, expected {wanted:.6g}"
