"""Recalibration: a graph with a new calibration from a folder of the user's own images, without training.

The network stays as it is, to the bit; only the manifest changes: its name, its calibration, and its metrics, of which
those that depend on the calibration are dropped.
"""

from __future__ import annotations

import hashlib
import tempfile
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from serving.files import write_with_folders
from serving.graphs.calibration import calibration_choice
from serving.graphs.collection import GRAPH_FILE
from serving.graphs.graph import Graph, load_graph
from serving.graphs.manifest import METADATA_KEY, Calibration, Manifest, dump_manifest
from serving.graphs.model_card import CARD_FILE
from serving.printable import printable
from serving.recalibrate.card import RecalibrationFacts, recalibrated_card
from serving.recalibrate.comparison import Comparison, compare_scores
from serving.score.image_files import ImageFiles
from serving.score.pipeline import Scorer
from serving.settings import Settings

FEWEST = 20
CHECKED_BATCHES = (1, 2, 7)
BAD_FILES_KEPT = 100
# Metrics that hold for one calibration only.
_OF_THE_CALIBRATION = ("false_alarm_rate", "false_alarm_alpha")


class RecalibrationError(RuntimeError):
    """A calibration that cannot be made, or a graph that cannot be written."""


@dataclass(frozen=True)
class Recalibrated:
    """A written graph: its path, the digest of the file, its manifest, and how its calibration differs from the old.

    ``old_name`` is that of the graph it was made from, which it has replaced where that is its own.
    ``scored`` different images gave a score, of which no more than ``calibration.LARGEST`` calibrate.
    ``copies`` of other images were left out, and ``bad`` files that gave no image; ``reasons`` are those of the first
    BAD_FILES_KEPT of these. ``linked_folders``: links to folders that were not followed.
    """

    path: Path
    digest: str
    manifest: Manifest
    old_name: str
    comparison: Comparison
    scored: int
    copies: int
    bad: int
    reasons: tuple[tuple[Path, str], ...]
    linked_folders: int


@dataclass
class _Scored:
    """What scoring a folder leaves of its different images: scores in order, digest of the pixels, and a few images.

    A p-value takes the images for independent draws of what is normal. Copies are none: with them the calibration would
    claim a number of images, and p-values as small, that it does not have. So images whose pixels are equal as the
    graph sees them count once. They are known by digests that no two images share by chance, 0.1 KB in memory each.
    """

    scores: array[float] = field(default_factory=lambda: array("f"))
    pixels: hashlib._Hash = field(default_factory=hashlib.sha256)
    samples: list[NDArray[np.uint8]] = field(default_factory=list)
    known: set[bytes] = field(default_factory=set)
    copies: int = 0
    bad: int = 0
    reasons: list[tuple[Path, str]] = field(default_factory=list)

    def add(self, image: NDArray[np.uint8], score: float) -> None:
        """Take a fitted image with its score, or count it as a copy."""
        pixels = np.ascontiguousarray(image).data
        digest = hashlib.blake2b(pixels, digest_size=16).digest()
        if digest in self.known:
            self.copies += 1
            return
        self.known.add(digest)
        self.scores.append(score)
        self.pixels.update(pixels)
        if len(self.samples) < max(CHECKED_BATCHES):
            self.samples.append(image)

    def leave_out(self, path: str, reason: str) -> None:
        """Count a file that gives no image, of the first with the reason."""
        self.bad += 1
        if self.bad <= BAD_FILES_KEPT:
            self.reasons.append((Path(path), reason))


def recalibrate(
    name: str,
    folder: Path,
    new_name: str,
    settings: Settings,
    *,
    force: bool = False,
    progress: Callable[[int, int], None],
) -> Recalibrated:
    """Score the images of ``folder`` with the model ``name`` and write it anew as ``new_name``, calibrated on them.

    All of the images calibrate, copies once, of more than ``calibration.LARGEST`` a seeded choice of so many.
    ``progress`` is called with the number of files done and of all. Models are in ``settings.models``.

    Raises RecalibrationError for a name that will not do or, unless ``force``, is taken; for fewer than FEWEST
    different images; for scores that are not finite; and where a file cannot be written, with what was there intact.
    FilesError, GraphError, and as ``load_selection``.
    """
    target = settings.models / new_name
    _check_name(new_name, target, force)
    files = ImageFiles([folder])
    count = files.count()
    scorer = Scorer.load(settings, [name])
    (graph,) = scorer.graphs
    old_card = _read_card(graph.path.parent / CARD_FILE)
    scored = _score(files, scorer, lambda done: progress(done, count))
    manifest = _manifest(graph, new_name, _calibration(scored, folder, graph))
    data = _with_manifest(graph, manifest)
    check_outputs(graph, data, new_name, scored.samples)
    facts = RecalibrationFacts(
        manifest=manifest,
        size=len(data),
        digest=f"sha256:{hashlib.sha256(data).hexdigest()}",
        old_name=graph.name,
        old_digest=graph.digest,
        copies=scored.copies,
        left_out=scored.bad,
        # With what the new graph keeps, not with all scores: the thresholds told are those that it has.
        comparison=compare_scores(graph.calibration_scores, np.array(manifest.calibration.scores, np.float32)),
    )
    _write({target / GRAPH_FILE: data, target / CARD_FILE: recalibrated_card(old_card, facts).encode()})
    return Recalibrated(
        path=target / GRAPH_FILE,
        digest=facts.digest,
        manifest=manifest,
        old_name=graph.name,
        comparison=facts.comparison,
        scored=len(scored.scores),
        copies=scored.copies,
        bad=scored.bad,
        reasons=tuple(scored.reasons),
        linked_folders=files.linked_folders,
    )


def _check_name(name: str, target: Path, force: bool) -> None:
    try:
        TypeAdapter(Manifest.model_fields["name"].rebuild_annotation()).validate_python(name)
    except ValidationError:
        raise RecalibrationError(
            f"{name!r} cannot name a model: letters, digits, '.', '_' and '-', the first a letter or digit"
        ) from None
    if target.exists() and not force:
        raise RecalibrationError(f"{printable(target)} is there already: give another --name, or --force to replace it")


def _score(files: ImageFiles, scorer: Scorer, progress: Callable[[int], None]) -> _Scored:
    """Score all files; copies and those that give no image are counted, and of the latter the first kept."""
    (graph,) = scorer.graphs
    found, done = _Scored(), 0
    for batch in scorer.score(files):
        scores = iter([score for outputs in batch.outputs for score in outputs["anomaly_score"].tolist()])
        for file in batch.files:
            if file.image is not None:
                found.add(file.image[graph.manifest.fitting], next(scores))
            else:
                found.leave_out(file.path, file.error or "no image")
        done += len(batch.files)
        progress(done)
    return found


def _calibration(scored: _Scored, folder: Path, graph: Graph) -> Calibration:
    scores = np.frombuffer(scored.scores, np.float32)
    if len(scores) < FEWEST:
        copies = f", {scored.copies} copies of them not counted" if scored.copies else ""
        raise RecalibrationError(
            f"{len(scores)} images of {printable(folder)} could be scored{copies}: a calibration takes {FEWEST} at "
            "least, and 99 to raise an alarm at alpha 0.01 where no other model answers beside it"
        )
    if not np.isfinite(scores).all():
        raise RecalibrationError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite")
    chosen = np.sort(scores[calibration_choice(len(scores))])
    of = f"{len(scores)} different images" if scored.copies else f"{len(scores)}"
    which = f"all {of}" if len(chosen) == len(scores) else f"{len(chosen)} of {of}, drawn at random,"
    return Calibration(
        n=len(chosen),
        scores=chosen.tolist(),
        data=printable(folder.resolve().name),
        split=f"{which} of a folder given to recalibrate {graph.name}",
        digest=f"sha256:{scored.pixels.hexdigest()}",
    )


def _manifest(graph: Graph, name: str, calibration: Calibration) -> Manifest:
    metrics = {key: value for key, value in graph.manifest.metrics.items() if key not in _OF_THE_CALIBRATION}
    return graph.manifest.model_copy(update={"name": name, "calibration": calibration, "metrics": metrics})


def _with_manifest(graph: Graph, manifest: Manifest) -> bytes:
    """Return the file of ``graph`` with another manifest and all else as it is."""
    import onnx  # as large as the rest of serving, and needed here alone

    data = graph.path.read_bytes()
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != graph.digest:
        raise RecalibrationError(f"{graph.path} has changed while its images were scored")
    model = onnx.load_model_from_string(data)
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = dump_manifest(manifest)
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def check_outputs(graph: Graph, data: bytes, name: str, samples: Sequence[NDArray[np.uint8]]) -> None:
    """Load what is to be written as a server would, and compare its outputs with the old graph's, bit for bit.

    ``samples`` are at least one image, run in batches of CHECKED_BATCHES. Raises RecalibrationError.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / GRAPH_FILE
        path.write_bytes(data)
        new = load_graph(path, "cpu", 1)
    old = load_graph(graph.path, "cpu", 1)
    if new.name != name:
        raise RecalibrationError(f"the new graph came out as {new.name!r}, not {name!r}")
    for size in CHECKED_BATCHES:
        images = np.stack(samples[:size])
        before, after = old.run(images), new.run(images)
        for output, values in before.items():
            if after[output].tobytes() != values.tobytes():
                raise RecalibrationError(f"output {output!r} of the new graph differs from the old one's")


def _read_card(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # a graph of somebody else's, without a card


def _write(contents: dict[Path, bytes]) -> None:
    try:
        write_with_folders(contents)
    except OSError as error:
        names = " and ".join(printable(path) for path in contents)
        raise RecalibrationError(f"cannot write {names}: {error.strerror or error}") from error
