"""The paper's tables and figures that can be reproduced, and the recipes that each is made of."""

from __future__ import annotations

import re
from dataclasses import dataclass

from training.recipe import Recipe, Scale
from training.recipe_files import all_recipes


class TargetError(ValueError):
    """A table or figure that there is not, or not yet; the message lists those there are."""


@dataclass(frozen=True)
class Target:
    """A table or figure of the paper. ``metrics``: the single figures of a row, as `published` names them.

    ``sections``: where else than in the target itself the paper prints such figures for its rows.
    """

    name: str
    title: str
    metrics: tuple[str, ...]
    sections: tuple[str, ...] = ()


_LABEL_ROWS = ("none", "none-rotations", "glc5", "glc5-rotations", "glc10", "glc10-rotations")
ATTACKED = ("accuracy", "accuracy_pgd20_more", "accuracy_pgd20", "accuracy_pgd100")
TARGETS = {
    target.name: target
    for target in (
        Target("table-1", "Table 1: robustness to adversarial perturbations", ATTACKED, ("Section 3.1",)),
        Target("table-2", "Table 2: error under label corruption, mean over the strengths", ("error_mean",)),
        Target("figure-2", "Figure 2: accuracy over the attack's strength", ATTACKED, ("Table 1", "Section 3.1")),
        Target(
            "figure-3",
            "Figure 3: accuracy under common corruptions",
            ("accuracy", "accuracy_corruptions_mean"),
            ("Section 3.2",),
        ),
        Target("figure-4", "Figure 4: error over the strength of label corruption", ("error_mean",), ("Table 2",)),
        Target(
            "figure-5",
            "Figure 5: out-of-distribution detection",
            ("auroc_mean", "auroc_others_mean"),
            ("Section 4.1",),
        ),
    )
}
LATER = ("table-3", "table-4")
# The rows of the paper's tables from top to bottom, and of its figures from the baseline on.
_PRINTED_ORDER = (
    "cifar10-normal",
    "cifar10-adversarial",
    "cifar10-adversarial-rotations",
    "cifar10-trades",
    "cifar10-trades-rotations",
    "cifar10-robustness-normal",
    "cifar10-robustness-rotations",
    *(f"cifar{classes}-labels-{row}" for classes in (10, 100) for row in _LABEL_ROWS),
    "cifar10-baseline",
    "cifar10-rotations",
)


def find_target(name: str) -> Target:
    """Return the target of that name. Raises TargetError for one there is not, or not yet."""
    if name in LATER:
        raise TargetError(f"{name} (one-class learning) cannot be reproduced as a whole yet; {_listed()} can")
    if name not in TARGETS:
        raise TargetError(f"no target {name!r}; there are {_listed()}")
    return TARGETS[name]


def recipes_of(target: Target, scale: Scale) -> list[Recipe]:
    """Return the recipes of a target at ``scale``: those of the paper in its order, then others by name.

    Raises TargetError if there are none.
    """
    found = sorted((recipe for recipe in all_recipes(scale) if target.name in recipe.targets), key=_order)
    if not found:
        raise TargetError(f"no recipe has the target {target.name!r} yet")
    return found


def _order(recipe: Recipe) -> tuple[int, list[tuple[int, str]]]:
    """Rows that the paper does not print come last, numbers in their names by size: cifar10 before cifar100."""
    place = _PRINTED_ORDER.index(recipe.name) if recipe.name in _PRINTED_ORDER else len(_PRINTED_ORDER)
    words = re.findall(r"\d+|\D+", recipe.name)
    return place, [(int(word), "") if word.isdigit() else (-1, word) for word in words]


def _listed() -> str:
    return ", ".join(TARGETS)
