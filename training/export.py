"""Export: a run's network as one self-contained ONNX graph with its manifest, calibration and model card.

The graph is checked against the PyTorch module on real images before anything is written, in a lower precision against
the fp32 graph as well, and model and card replace earlier ones only together and whole.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import torch
from pydantic import TypeAdapter, ValidationError

from serving.files import write_with_folders
from serving.graphs.manifest import (
    METADATA_KEY,
    Calibration,
    Manifest,
    Precision,
    RecipeRecord,
    TrainingData,
    dump_manifest,
)
from training.calibrate import calibrate
from training.card import CardFacts, render_card
from training.data.image_set import Images, ImageSet
from training.environment import library_versions, source_revision
from training.evaluation import Evaluation, current_evaluation, evaluation_summary
from training.graph_precision import TOLERANCES, precision_graph
from training.graph_runner import GraphRunner
from training.networks import network_name
from training.onnx_graph import ExportError, network_graph, scorer_graph
from training.precision_change import MAX_LOSS, measure_change
from training.recipe import Recipe
from training.run_folder import RunFolder, load_network
from training.scorer import Scorer, build_scorer
from training.training_run import calibration_images, fitting_of

__all__ = ["ExportError", "Exported", "export_run"]

CHECKED_BATCHES = (1, 2, 7)
MODEL_FILE = "model.onnx"
CARD_FILE = "README.md"


@dataclass(frozen=True)
class Exported:
    """A written graph: its path, the digest of the file ('sha256:...'), its bytes, and its manifest."""

    path: Path
    digest: str
    size: int
    manifest: Manifest


def export_run(
    run: RunFolder,
    name: str,
    models: Path,
    *,
    data_root: Path | None = None,
    precision: str = "fp32",
    max_loss: float = MAX_LOSS,
    with_network: Path | None = None,
    baseline: RunFolder | None = None,
) -> Exported:
    """Write the run's latest checkpoint as ``models/NAME/model.onnx`` with its card ``README.md``.

    Images come from ``data_root`` (default: where the run found its own): for calibration and the self-check and, with
    ``precision`` 'fp16' or 'int8', to measure what that loses; more than ``max_loss`` of accuracy or AUROC is refused.
    ``with_network`` also writes the bare network (see ``network_graph``). ``baseline`` is an evaluated run of an
    equally trained network without rotations, whose figures the card sets beside this one's. Raises ExportError,
    DataError, RunError; files of an earlier export then stay as they were.
    """
    wanted = _check_request(name, precision)
    folder = models / name
    if with_network is not None:
        _check_network_file(with_network, folder)
    network, recipe = load_network(run)
    record, environment = run.training_record("classes", "data", "held_out"), run.environment()
    evaluation = current_evaluation(run)
    beside = _baseline_evaluation(baseline, evaluation) if baseline else None
    scorer = build_scorer(network, recipe)
    root = data_root or Path(environment["data_root"])
    images, split = calibration_images(recipe, root, record)

    reference = scorer_graph(scorer, recipe.data.size)
    model = precision_graph(reference, network, recipe, wanted, root, record)
    runner = GraphRunner(model.SerializeToString(), scorer.views)
    # On a GPU convolutions add up in another order: what the graph computes is checked where the module does.
    checked = runner if runner.is_on_cpu else GraphRunner(model.SerializeToString(), scorer.views, "cpu")
    difference = self_check(scorer, checked, _samples(images, max(CHECKED_BATCHES)), TOLERANCES[wanted])
    calibration = calibrate(runner, images, split, recipe.data.in_class)
    change = None
    metrics = {} if evaluation is None else evaluation_summary(evaluation)
    if wanted != "fp32":
        before = GraphRunner(reference.SerializeToString(), scorer.views)
        change = measure_change(wanted, before, runner, recipe, root, calibration, max_loss)
        change.check()
        metrics = change.metrics()
    manifest = _manifest(name, recipe, scorer, record, calibration, wanted, metrics)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, dump_manifest(manifest)
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString(deterministic=True)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"

    facts = CardFacts(
        manifest=manifest,
        recipe=recipe,
        digest=digest,
        size=len(data),
        record=record,
        environment=environment,
        step=int(run.load_checkpoint()["step"]),
        evaluation=evaluation,
        baseline=beside,
        difference=difference,
        change=change,
    )
    contents = {folder / MODEL_FILE: data, folder / CARD_FILE: render_card(facts).encode()}
    if with_network is not None:
        contents[with_network] = network_graph(network, recipe.data.size).SerializeToString(deterministic=True)
    _write(contents)
    return Exported(folder / MODEL_FILE, digest, len(data), manifest)


def self_check(scorer: Scorer, runner: GraphRunner, images: Images, tolerance: float = TOLERANCES["fp32"]) -> float:
    """Run the first 1, 2 and 7 of ``images`` through graph and module: the largest |difference| / max(1, |value|).

    Raises ExportError, naming output and batch, where it exceeds ``tolerance`` or is not finite, or an output's name,
    type or shape differs.
    """
    largest = 0.0
    for batch in CHECKED_BATCHES:
        with torch.inference_mode():
            expected = {key: value.numpy() for key, value in scorer(torch.from_numpy(images[:batch])).items()}
        given = runner.run(images[:batch])
        if list(given) != list(expected):
            raise ExportError(f"the graph gives {list(given)} where the module gives {list(expected)}")
        for output, value in expected.items():
            if given[output].shape != value.shape or given[output].dtype != np.float32:
                found = f"{given[output].dtype} {given[output].shape}"
                raise ExportError(f"output {output!r} of a batch of {batch} is {found}, not float32 {value.shape}")
            relative = np.abs(given[output] - value) / np.maximum(1, np.abs(value))
            worst = float(np.max(relative)) if np.isfinite(relative).all() else float("inf")
            if worst > tolerance or worst == float("inf"):
                raise ExportError(
                    f"output {output!r} of a batch of {batch} differs from PyTorch's by {worst:.2e}; "
                    f"{tolerance} is allowed"
                )
            largest = max(largest, worst)
    return largest


def _samples(images: ImageSet, count: int) -> Images:
    """Return ``count`` images spread over the set, some repeated if there are fewer."""
    chosen = images.take(np.linspace(0, len(images) - 1, count).astype(np.int64))
    return np.ascontiguousarray(chosen.pixels.read(0, count))


def _check_request(name: str, precision: str) -> Precision:
    try:
        TypeAdapter(Manifest.model_fields["name"].rebuild_annotation()).validate_python(name)
    except ValidationError:
        raise ExportError(
            f"{name!r} cannot name a model: letters, digits, '.', '_' and '-', the first a letter or digit"
        ) from None
    for known in get_args(Precision):
        if precision == known:
            return known  # type: ignore[no-any-return]
    raise ExportError(f"no precision {precision!r}; the precisions are {', '.join(get_args(Precision))}")


def _check_network_file(path: Path, folder: Path) -> None:
    """Raise ExportError, before anything is computed, where the bare network cannot go to ``path``."""
    if path.is_dir():
        raise ExportError(f"{path} is a folder; --with-network takes the name of a file")
    if path.resolve() in {(folder / name).resolve() for name in (MODEL_FILE, CARD_FILE)}:
        raise ExportError(f"{path} is the model's own file; --with-network takes another one")


def _baseline_evaluation(baseline: RunFolder, evaluation: Evaluation | None) -> Evaluation:
    beside = current_evaluation(baseline)
    if beside is None:
        raise ExportError(f"the baseline run {baseline.path} has no evaluation of its latest checkpoint; evaluate it")
    if evaluation is None:
        raise ExportError("this run has no evaluation of its latest checkpoint to set beside the baseline; evaluate it")
    same = ("in_distribution", "ood_ratio", "missing")
    if any(beside[key] != evaluation[key] for key in same) or set(beside["ood"]) != set(evaluation["ood"]):
        raise ExportError(f"the baseline run {baseline.path} was evaluated on other images than this run")
    return beside


def _manifest(
    name: str,
    recipe: Recipe,
    scorer: Scorer,
    record: dict[str, Any],
    calibration: Calibration,
    precision: Precision,
    metrics: dict[str, Any],
) -> Manifest:
    one_class = recipe.evaluation.score == "transformation"
    normal = recipe.data.in_class or f"all classes of {recipe.data.name}"
    return Manifest(
        schema_version=1,
        name=name,
        kind="one_class" if one_class else "classifier",
        method=recipe.method,
        score=recipe.evaluation.score,
        classes=record["classes"],
        normal=normal if one_class else None,
        fitting=fitting_of(recipe),
        view_grid=None if scorer.grid is None else scorer.grid.spec(),
        recipe=RecipeRecord(name=recipe.name, scale=recipe.scale, settings=recipe.settings()),
        network=network_name(recipe.network),
        precision=precision,
        training_data=TrainingData.model_validate(record["data"]),
        metrics=metrics,
        calibration=calibration,
        libraries=library_versions(),
        source_revision=source_revision(),
    )


def _write(contents: dict[Path, bytes]) -> None:
    try:
        write_with_folders(contents)
    except OSError as error:
        names = ", ".join(str(path) for path in contents)
        raise ExportError(f"could not write {names}: {error.strerror or error}; what was there is intact") from error
