"""What the rows of a table are compared on: the corruptions and out-of-distribution sets that all their runs have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from training.published import PAPER_SETS, held_out
from training.report.collect import System


@dataclass(frozen=True)
class Basis:
    """Names of what every run measured, so that means over them are like for like.

    ``corruptions``: in every run that has any; ``corruptions_lacking``: the others that a run asked for. ``sets``: of
    the paper's, those in every run that has any, and trained on by none; ``sets_lacking``: the paper's others.
    ``others``: likewise of the sets beside the paper's.
    """

    corruptions: tuple[str, ...]
    corruptions_lacking: tuple[str, ...]
    sets: tuple[str, ...]
    sets_lacking: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def mean_of_corruptions(self) -> str:
        """Say what a mean over corruptions is over."""
        lacking = len(self.corruptions_lacking)
        over = f"{len(self.corruptions)} of {len(self.corruptions) + lacking} " if lacking else ""
        return f"mean over {over}corruptions"

    @property
    def mean_of_sets(self) -> str:
        """Say what a mean over the paper's sets is over."""
        part = f"{len(self.sets)} of " if self.sets_lacking and self.sets else ""
        return f"mean over {part}the paper's {len(PAPER_SETS)} sets"

    @property
    def mean_of_others(self) -> str:
        """Say what a mean over the other sets is over."""
        return f"mean over {len(self.others)} other sets: {', '.join(self.others)}"


def basis_of(systems: Sequence[System]) -> Basis:
    """Return what all runs of ``systems`` have in common. A run without any corruption, or set, does not count."""
    evaluations = [run.evaluation for system in systems for run in system.runs]
    corrupted = [found for found in map(_corruptions, evaluations) if found]
    corruptions = _in_all(corrupted)
    asked = _in_any([*corrupted, *(evaluation.get("corruptions", {}).get("missing", []) for evaluation in evaluations)])
    measured = [evaluation for evaluation in evaluations if evaluation["ood"]]
    shared = _in_all([held_out(found) for found in measured])
    return Basis(
        corruptions=tuple(corruptions),
        corruptions_lacking=tuple(name for name in asked if name not in corruptions),
        sets=tuple(name for name in PAPER_SETS if name in shared),
        sets_lacking=tuple(name for name in PAPER_SETS if name not in shared),
        others=tuple(name for name in shared if name not in PAPER_SETS),
    )


def _corruptions(evaluation: dict[str, Any]) -> list[str]:
    return list(evaluation.get("corruptions", {}).get("accuracy", {}))


def _in_any(lists: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(name for names in lists for name in names))


def _in_all(lists: Sequence[Sequence[str]]) -> list[str]:
    return [name for name in _in_any(lists) if all(name in names for names in lists)]
