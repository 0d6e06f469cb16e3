"""What jobs need of a data root: which sets it lacks, and what an evaluation lacked that has come since."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.corruptions.catalog import CORRUPTIONS
from training.corruptions.layout import finished_corruptions, read_mark
from training.data.image_set import DataError
from training.data.ood import is_there
from training.evaluation_file import missing_in
from training.recipe import Recipe
from training.reproduce.jobs import Job


def check_data_root(jobs: Sequence[Job], root: Path) -> None:
    """Raise DataError if ``root`` has no data set that any of ``jobs`` is trained on: it is the wrong folder."""
    names = sorted({job.resolved().data.name for job in jobs})
    if not any((root / name).is_dir() for name in names):
        raise DataError(
            f"{root} has no data set to train on ({', '.join(names)}); `quarterturn data --root {root}` says how to "
            "get them"
        )


def lacking(jobs: Sequence[Job], root: Path) -> list[str]:
    """Return the names of what ``jobs`` would train on or be evaluated on and ``root`` does not hold, each once.

    Of a corruption that is not there the name is 'DATA/NAME', or 'DATA' where all are lacking.
    """
    names: dict[str, None] = {}
    for recipe in {job.recipe: job.resolved() for job in jobs}.values():
        trained = [recipe.data.name, *([recipe.outliers.data] if recipe.outliers else [])]
        names |= dict.fromkeys(name for name in trained if not (root / name).is_dir())
        names |= dict.fromkeys(_sets_not_there(recipe, root))
        corruptions = _corruptions_not_there(recipe, root)
        if corruptions and recipe.evaluation.corruptions:
            folder = recipe.evaluation.corruptions.data
            are_all = len(corruptions) == len(CORRUPTIONS)
            names |= dict.fromkeys([folder] if are_all else [f"{folder}/{name}" for name in corruptions])
    return list(names)


def has_come(evaluation: dict[str, Any], recipe: Recipe, root: Path) -> bool:
    """Return whether ``root`` holds a set or corruption now that ``evaluation`` of ``recipe`` lacked."""
    wanted = {*recipe.evaluation.ood, *(CORRUPTIONS if recipe.evaluation.corruptions else ())}
    still_lacking = {*_sets_not_there(recipe, root), *_corruptions_not_there(recipe, root)}
    return bool((wanted & set(missing_in(evaluation))) - still_lacking)


def _sets_not_there(recipe: Recipe, root: Path) -> list[str]:
    return [name for name in recipe.evaluation.ood if not is_there(root, name)]


def _corruptions_not_there(recipe: Recipe, root: Path) -> list[str]:
    if recipe.evaluation.corruptions is None:
        return []
    folder = root / recipe.evaluation.corruptions.data
    there = finished_corruptions(folder, read_mark(folder))
    return [name for name in CORRUPTIONS if name not in there]
