"""Making CIFAR-10-C from test images of a data root: `quarterturn data --generate cifar10-c`.

A stand-in for the published files, by the makers' definitions and constants but other random draws, and marked as such.
Every draw belongs to a place (corruption, severity, chunk of images), so that the number of processes changes nothing.
"""

from __future__ import annotations

import io
import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.files import write_together
from serving.graphs.providers import available_cores
from serving.images.fitting import Fitting
from training.corruptions.catalog import CORRUPTIONS, SEVERITIES
from training.corruptions.frost_photographs import HOW_TO_GET, frost_folder
from training.corruptions.layout import LABELS_FILE, MARK_FILE, NAME, Mark, npy_path, read_mark
from training.data.draws import generator
from training.data.image_set import DataError, Images, ImageSet
from training.data.sources import load_images
from training.data.splits import share_of_each_class
from training.progress import note, progress_bar

SIZE = 32
VERSION = 1  # of the draws and definitions: files of another version are not gone on with
CHUNK = 250  # images whose draws come from one generator

Task = tuple[str, int, int]  # corruption, severity, number of the chunk
Work = Callable[[Iterator[Task]], Iterator[Images]]


def generate(
    root: Path, *, source: str = "cifar10", seed: int = 0, limit: int = 0, processes: int | None = None
) -> Mark:
    """Make ``root/cifar10-c`` from the test split of ``root/source``, and return its mark.

    ``limit``: about so many images, of each class its share, 0 for all. ``processes``: default, one a core. Each
    finished NAME.npy is kept: a call that was stopped goes on where it was, and frost, left out and named while its
    photographs are not installed, is added by a later one. Raises DataError if the folder holds published files, or
    others than this call would make; for a source that cannot be read; and if a process that helps is killed.
    """
    folder = root / NAME
    test = load_images(root, source, "test", Fitting(size=SIZE, shorter_side=SIZE))
    images = test.take(share_of_each_class(test.labels, limit))
    mark = _begin(folder, images, len(test), seed)
    skipped = {} if frost_folder() else {"frost": HOW_TO_GET}
    wanted = [name for name in CORRUPTIONS if name not in skipped and name not in mark["made"]]
    chunks = -(-len(images) // CHUNK)
    with _workers(images.pixels.read(0, len(images)), seed, processes) as work, progress_bar() as progress:
        bar = progress.add_task("corrupting", total=len(wanted) * len(SEVERITIES) * chunks)
        for name in wanted:
            progress.update(bar, description=f"corrupting: {name}")
            parts = []
            for part in work((name, severity, chunk) for severity in SEVERITIES for chunk in range(chunks)):
                parts.append(part)
                progress.advance(bar)
            mark = {**mark, "made": [known for known in CORRUPTIONS if known in (*mark["made"], name)]}
            _write(folder, {npy_path(folder, name): _npy(np.concatenate(parts))}, mark, skipped)
    _write(folder, {}, mark, skipped)
    for name, reason in skipped.items():
        note(f"left out: {name}; {reason}")
    return _with_missing(mark, skipped)


def corrupt(images: Images, name: str, severity: int, seed: int, chunk: int = 0) -> Images:
    """Return ``images`` uint8 [N, 32, 32, 3] corrupted, with the draws of ``chunk`` of the run of ``seed``."""
    place = (list(CORRUPTIONS).index(name), severity, chunk)
    return CORRUPTIONS[name](images, severity, generator("corruptions", seed, *place))


def _begin(folder: Path, images: ImageSet, available: int, seed: int) -> Mark:
    """Make the folder ready and return the mark to go on from. Raises DataError if it holds anything else."""
    wanted: Mark = {
        "generator": "quarterturn",
        "version": VERSION,
        "seed": seed,
        "source": {
            "data": images.name,
            "split": images.split,
            "digest": images.digest,
            "available": available,
            "count": len(images),
            "classes": list(images.classes),
        },
    }
    found = read_mark(folder)
    if found is not None:
        differing = [key for key in wanted if found.get(key) != wanted[key]]
        if differing:
            raise DataError(f"{folder} was made otherwise ({', '.join(differing)} differ); remove it to make it anew")
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        return {**wanted, "made": [name for name in found["made"] if npy_path(folder, name).is_file()]}
    if folder.is_dir() and any(folder.glob("*.npy")):
        raise DataError(f"{folder} holds files that were not made here; they are used as they are")
    mark: Mark = {**wanted, "made": []}
    published_type = np.uint8 if len(images.classes) <= 256 else np.int64
    labels = np.tile(images.labels.astype(published_type), len(SEVERITIES))
    _write(folder, {folder / LABELS_FILE: _npy(labels)}, mark, {})
    return mark


def _write(folder: Path, files: dict[Path, bytes], mark: Mark, skipped: dict[str, str]) -> None:
    """Write ``files``, then the mark that lists them. Raises DataError, what was there intact."""
    text = json.dumps(_with_missing(mark, skipped), indent=2) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_together({**files, folder / MARK_FILE: text.encode()})
    except OSError as error:
        raise DataError(f"could not write into {folder}: {error.strerror or error}; finished files are kept") from error


def _with_missing(mark: Mark, skipped: dict[str, str]) -> Mark:
    missing = {name: skipped.get(name, "not made yet") for name in CORRUPTIONS if name not in mark["made"]}
    return {**mark, "missing": missing}


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


@contextmanager
def _workers(images: Images, seed: int, processes: int | None) -> Iterator[Work]:
    """Yield what corrupts chunks, in order: in this process, or in several. Work not begun is dropped at an error.

    Raises DataError if one of several processes is killed.
    """
    count = processes if processes is not None else available_cores()
    if count <= 1:
        yield lambda tasks: (_corrupt_chunk(images, seed, task) for task in tasks)
        return
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _keep, (images, seed))
    try:
        yield lambda tasks: pool.map(_corrupt_kept, tasks)
    except BrokenProcessPool as error:
        raise DataError(
            f"one of the {count} processes that make {NAME} was killed or crashed, as when memory runs out; "
            "finished files are kept, and the same call goes on from there"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _corrupt_chunk(images: Images, seed: int, task: Task) -> Images:
    name, severity, chunk = task
    return corrupt(images[chunk * CHUNK : (chunk + 1) * CHUNK], name, severity, seed, chunk)


_kept: dict[str, Any] = {}  # in a worker process: what it works on, sent once


def _keep(images: Images, seed: int) -> None:
    _kept.update(images=images, seed=seed)


def _corrupt_kept(task: Task) -> Images:
    return _corrupt_chunk(_kept["images"], _kept["seed"], task)
