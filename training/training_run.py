"""A whole training run: images of the recipe's data set, its split, the training, and the record of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from serving.graphs.manifest import TrainingData
from serving.images.fitting import Fitting
from serving.printable import printable
from training.data.image_set import DataError, ImageSet, UnreadableError
from training.data.sources import load_images
from training.data.splits import halves, hold_out
from training.environment import accelerator, describe_device, is_first_process, library_versions, source_revision
from training.exposure.outliers import load_outliers, outlier_record
from training.objectives.build import build_objective
from training.phase_plan import plan_phases
from training.phases import Phase, has_begun, phases_record, train_phases
from training.precision import Precision, precision_on, resolve_precision, trained_precision, was_on_cuda
from training.progress import note
from training.recipe import Recipe
from training.run_folder import RunError, RunFolder, check_same_recipe
from training.run_lock import alone
from training.shared_phases import SharedPhases
from training.trained_on import check_trained_on
from training.trainer import Outcome


def fitting_of(recipe: Recipe) -> Fitting:
    """Return how images are fitted for the recipe's network."""
    return Fitting(size=recipe.data.size, shorter_side=recipe.data.shorter_side)


def load_split(recipe: Recipe, data_root: Path, split: str, trained: Mapping[str, Any] | None = None) -> ImageSet:
    """Return split 'train' or 'test' of the recipe's data set, all classes. Raises DataError.

    ``trained``: the training record of a run that the images are for; RunError if they do not suit it.
    """
    images = load_images(
        data_root,
        recipe.data.name,
        split,
        fitting_of(recipe),
        skip_unreadable=recipe.data.skip_unreadable,
        limit_per_class=recipe.data.limit_per_class if split == "train" else 0,
    )
    if trained is not None:
        check_trained_on(images, trained)
    return images


def in_distribution(recipe: Recipe, images: ImageSet) -> ImageSet:
    """Return the images that are normal: those of data.in_class, or all. Raises DataError for an unknown class."""
    return images if recipe.data.in_class is None else images.of_class(recipe.data.in_class)


def training_indices(recipe: Recipe, normal: ImageSet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return indices of ``normal`` training images (trained on, held out for calibration); design: Calibration."""
    settings = recipe.calibration
    if settings.source == "test_half":
        return np.arange(len(normal)), np.empty(0, np.int64)
    return hold_out(normal.labels, settings.share, settings.minimum, settings.seed)


def calibration_images(recipe: Recipe, data_root: Path, trained: Mapping[str, Any] | None) -> tuple[ImageSet, str]:
    """Return the images that calibrate, none of them trained on, and their split in words.

    ``trained``: the training record of the run that they calibrate, None for a recipe alone. Raises DataError, also if
    there is no such image; RunError if they cannot be told from those trained on.
    """
    settings = recipe.calibration
    if settings.source == "train_holdout":
        normal = in_distribution(recipe, load_split(recipe, data_root, "train", trained))
        images, split = normal.take(training_indices(recipe, normal)[1]), "held out of train"
    else:
        normal = in_distribution(recipe, load_split(recipe, data_root, "test", trained))
        images, split = normal.take(halves(len(normal), settings.seed)[0]), "half of test"
    if len(images) == 0:
        raise DataError(f"there are no images of {images.name!r} to calibrate on: {split} is empty")
    return images, split


def train_recipe(
    recipe: Recipe,
    data_root: Path,
    run: RunFolder,
    *,
    seed: int = 0,
    resume: bool = False,
    max_minutes: float | None = None,
    shared: SharedPhases | None = None,
    held: bool = False,
) -> Outcome:
    """Train ``recipe`` on the data of ``data_root`` into ``run``, with everything needed to repeat it.

    An existing run is refused unless ``resume``, and one that another process trains in any case; a refused or failed
    call leaves it as it was, and so does one to go on with a finished run, but for settings that do not decide the
    weights. ``shared``: where runs share their pre-training. ``held``: the caller holds the folder
    (see ``alone``). Raises DataError, RunError, TrainingError.
    """
    # Of torchrun's processes, which all train in the folder, the one that writes it holds it.
    with nullcontext() if held or not is_first_process() else alone(run.path):
        return _train(recipe, data_root, run, seed=seed, resume=resume, max_minutes=max_minutes, shared=shared)


def _train(
    recipe: Recipe,
    data_root: Path,
    run: RunFolder,
    *,
    seed: int,
    resume: bool,
    max_minutes: float | None,
    shared: SharedPhases | None,
) -> Outcome:
    """Do what ``train_recipe`` says, in a folder that is held."""
    begun, precision = has_begun(run), resolve_precision(recipe.trainer.precision)
    if begun:
        if not resume:
            raise RunError(f"{run.path} holds a run already; go on with it by --resume, or choose another --out")
        check_same_recipe(_begun_as(run), recipe, seed)
        precision = _precision_to_go_on_in(run, recipe)
    with _advice_on_unreadable_images():
        train_images = load_split(recipe, data_root, "train")
        _check_class_names(train_images)
        build_objective(recipe, len(train_images.classes))  # refuses before more is read
        outliers = load_outliers(recipe, data_root)
    normal = in_distribution(recipe, train_images)
    kept, held_out = training_indices(recipe, normal)
    if recipe.calibration.source == "train_holdout" and not len(held_out):
        raise DataError(
            f"of the images in {recipe.data.name}/train none can be held out, and nothing would calibrate: a class "
            "needs two at least; calibration.source=test_half takes test images instead"
        )
    phases, label_record = plan_phases(recipe, normal.take(kept), run)
    record = {
        "data": TrainingData(
            name=recipe.data.name,
            split="train",
            digest=train_images.digest,
            available=train_images.available(recipe.data.in_class),
            count=len(kept),
            in_class=recipe.data.in_class,
        ).model_dump(),
        "held_out": len(held_out),
        "classes": list(train_images.classes),
        "skipped": list(train_images.skipped),
        "precision": precision,
        "device": describe_device(torch.device(accelerator())),
        **outlier_record(recipe, outliers),
        **label_record,
        **phases_record(phases),
    }
    if begun:
        before = run.training_record()
        if any(_images_in(before, part) != _images_in(record, part) for part in ("data", "outliers", "labels")):
            raise RunError(f"the images in {data_root} are not those the run in {run.path} began with")
        record = {**before, **record}
    # Nothing is trained any more: what the weights were made with is not what looks at them now.
    trained = begun and _is_trained(run, phases[-1])
    if trained:
        record = {**record, **before}

    def write_progress(outcome: Outcome) -> None:
        progress = {
            "step": outcome.step,
            "steps": outcome.steps,
            "finished": outcome.finished,
            "views": outcome.views,
            "seconds": round(outcome.seconds, 1),
            "device": record["device"] if trained else outcome.device,
        }
        if not (trained and record.get("finished")):
            run.write_json("training.json", {**record, **progress})

    if is_first_process():
        for skipped in (*train_images.skipped, *(outliers.skipped if outliers else ())):
            note(f"left out: {skipped}")
        run.write_json("recipe.json", recipe.settings())
        if not trained:
            run.write_json("training.json", record)
            environment = {"libraries": library_versions(), "source_revision": source_revision(), "seed": seed}
            run.write_json("environment.json", {**environment, "data_root": str(data_root.resolve())})
    return train_phases(
        phases,
        run,
        seed=seed,
        resume=resume,
        max_minutes=max_minutes,
        on_checkpoint=write_progress,
        outliers=outliers,
        shared=shared,
    )


def _check_class_names(images: ImageSet) -> None:
    """Raise DataError where a class has a name that no manifest can hold, which export would come to after all."""
    for name in images.classes:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"class folder {printable(name)} of {images.name}/{images.split} has a name that is not UTF-8; "
                "rename it"
            ) from error


@contextmanager
def _advice_on_unreadable_images() -> Iterator[None]:
    """Say what else than to remove them a training, unlike an evaluation, can do with unreadable images."""
    try:
        yield
    except UnreadableError as error:
        raise DataError(f"{error}, or leave such files out with --set data.skip_unreadable=true") from error


def _images_in(record: dict[str, Any], part: str) -> dict[str, Any]:
    """Return what a training record says of its images; how many there were the digest says, and not all versions."""
    return {key: value for key, value in (record.get(part) or {}).items() if key != "available"}


def _is_trained(run: RunFolder, last: Phase) -> bool:
    """Return whether the run's own checkpoint is that of its last step."""
    return run.checkpoint_path.exists() and bool(run.load_checkpoint()["step"] == last.steps)


def _precision_to_go_on_in(run: RunFolder, recipe: Recipe) -> Precision:
    """Return the precision that the run began in.

    Raises RunError if it would go on in another: its weights would be of neither. A finished run does not go on, so
    that 'auto' is what it was where the run was trained.
    """
    record = run.training_record()
    begun = trained_precision(run.recipe().trainer.precision, record)
    cuda = was_on_cuda(record) if record.get("finished") else torch.cuda.is_available()
    asked = precision_on(recipe.trainer.precision, cuda)
    if begun != asked:
        raise RunError(
            f"the run in {run.path} began in precision {begun} and would go on in {asked}; "
            f"trainer.precision={begun} goes on as it began"
        )
    return begun


def _begun_as(run: RunFolder) -> dict[str, Any]:
    """Return the recipe and seed a run began with: the last checkpoint's or, before its last phase, the folder's."""
    if run.checkpoint_path.exists():
        return run.load_checkpoint()
    return {"recipe": json.dumps(run.recipe().settings()), "seed": run.environment()["seed"]}
