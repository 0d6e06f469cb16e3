"""Graph: one exported ONNX file, checked against the graph contract (docs/graph-contract.md) and ready to run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.graphs.manifest import INPUT_NAME, METADATA_KEY, Manifest, ManifestError, parse_manifest
from serving.graphs.providers import ProviderChoice, ProviderError, open_session


class GraphError(RuntimeError):
    """A file that is no graph of the contract: damaged, of an unknown schema, without an output; names its path."""


@dataclass(frozen=True, eq=False)
class Graph:
    """A loaded graph. ``run`` may be called from several threads at once.

    ``digest`` is "sha256:" and the hexadecimal digest of the file; ``calibration_scores`` float32 [n], ascending;
    ``provider`` where ONNX Runtime runs it ("CPUExecutionProvider", "CUDAExecutionProvider").
    """

    path: Path
    digest: str
    manifest: Manifest
    calibration_scores: NDArray[np.float32]
    provider: str
    session: Any

    @property
    def name(self) -> str:
        """The manifest's name, by which requests and settings call the graph."""
        return self.manifest.name

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Score RGB images, uint8 ``[n, size, size, 3]`` with n >= 1; return the outputs that the contract names.

        Each is float32 ``[n, ...]``; which there are follows from ``manifest.score``. Higher ``anomaly_score`` is more
        anomalous. Raises GraphError where an output is not of the shape that the manifest implies.
        """
        arrays = self.session.run(self._names, {INPUT_NAME: images})
        for name, values, shape in zip(self._names, arrays, self._shapes, strict=True):
            expected = (len(images), *shape)
            if values.shape != expected:
                raise GraphError(f"{self.path}: output {name!r} came out as {values.shape}, not {expected}")
        return dict(zip(self._names, arrays, strict=True))

    # Asked of the manifest once: what is done beside each run, the run itself drives out of the processor's caches.

    @cached_property
    def _names(self) -> list[str]:
        return list(self.manifest.required_outputs())

    @cached_property
    def _shapes(self) -> list[tuple[int, ...]]:
        return [self.manifest.output_shape(name) for name in self._names]

    def warm(self, batch_sizes: Sequence[int] = (2,)) -> None:
        """Run blank images in batches of these sizes, so that the first request finds memory and kernels ready.

        Raises GraphError.
        """
        size = self.manifest.fitting.size
        for batch in batch_sizes:
            try:
                self.run(np.zeros((batch, size, size, 3), dtype=np.uint8))
            except GraphError:
                raise
            except Exception as error:  # onnxruntime's exceptions share no other base
                raise GraphError(f"{self.path}: loads, but does not run: {error}") from error


def read_graph(path: Path) -> bytes:
    """Return the bytes of a graph's file. Raises GraphError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise GraphError(f"{path}: cannot be read: {error.strerror or error}") from error


def load_graph(
    path: Path,
    providers: ProviderChoice = "cpu",
    threads: int | None = None,
    gpu: int = 0,
    data: bytes | None = None,
    cores: Sequence[int] = (),
) -> Graph:
    """Load the graph in ``path`` and check its manifest, input and outputs; run nothing yet.

    ``threads`` within one run, None for all available cores; ``gpu`` and ``cores`` as ``open_session``; ``data``: the
    file's bytes, where they were read before. Raises GraphError, and ProviderError where ``providers`` is "cuda" and
    there is none.
    """
    if data is None:
        data = read_graph(path)
    try:
        session = open_session(data, providers, threads, gpu, cores)
    except ProviderError:
        raise
    except Exception as error:  # onnxruntime's exceptions share no other base
        raise GraphError(f"{path}: damaged, or no ONNX file: {error}") from error
    try:
        manifest = parse_manifest(session.get_modelmeta().custom_metadata_map.get(METADATA_KEY))
    except ManifestError as error:
        raise GraphError(f"{path}: {error}") from error
    for problem in (_input_problem(session, manifest), _output_problem(session, manifest)):
        if problem:
            raise GraphError(f"{path}: {problem}")
    scores = np.array(manifest.calibration.scores, dtype=np.float32)
    scores.setflags(write=False)
    return Graph(
        path=path,
        digest=f"sha256:{hashlib.sha256(data).hexdigest()}",
        manifest=manifest,
        calibration_scores=scores,
        provider=session.get_providers()[0],
        session=session,
    )


def _input_problem(session: Any, manifest: Manifest) -> str | None:
    size = manifest.fitting.size
    wanted = f"one input {INPUT_NAME!r}, uint8 [batch, {size}, {size}, 3] with any batch"
    inputs = session.get_inputs()
    given = ", ".join(f"{value.name!r} {value.type} {value.shape}" for value in inputs)
    if (
        len(inputs) != 1
        or inputs[0].name != INPUT_NAME
        or inputs[0].type != "tensor(uint8)"
        or list(inputs[0].shape[1:]) != [size, size, 3]
        or isinstance(inputs[0].shape[0], int)
    ):
        return f"the contract asks for {wanted}; the graph takes {given or 'nothing'}"
    return None


def _output_problem(session: Any, manifest: Manifest) -> str | None:
    outputs = {output.name: output for output in session.get_outputs()}
    missing = [name for name in manifest.required_outputs() if name not in outputs]
    if missing:
        return f"lacks the outputs {', '.join(missing)}, which score {manifest.score!r} needs"
    for name in manifest.required_outputs():
        if outputs[name].type != "tensor(float)":
            return f"output {name!r} is {outputs[name].type}, not tensor(float)"
    return None
