"""Finding recipes by name, applying a scale and ``--set`` overrides, and saying what is wrong with one."""

from __future__ import annotations

import difflib
import json
import tomllib
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from training.recipe import SCALES, Recipe, Scale

RECIPES = Path(__file__).parent / "recipes"
SCALE_FILES = RECIPES / "scales"


class RecipeError(ValueError):
    """A recipe that does not exist or is not valid; the message names the key and the nearest known one."""


def recipe_paths() -> dict[str, Path]:
    """Return the recipe files that ship, by recipe name, in order of section and file name."""
    return {path.stem: path for path in sorted(RECIPES.rglob("*.toml")) if SCALE_FILES not in path.parents}


def load_recipe(name: str, scale: Scale = "paper", overrides: list[str] | None = None) -> Recipe:
    """Return recipe ``name`` (or the TOML file of that path) at ``scale``, with 'key.path=value' ``overrides``.

    Raises RecipeError: unknown recipe, unknown key, a value out of range; each with the nearest known name.
    """
    tables = _read(_find(name))
    if scale not in SCALES:
        raise RecipeError(f"no scale {scale!r}{_nearest(scale, SCALES)}")
    if scale != "paper":
        for layer in _scale_layers(scale, tables):
            tables = _merge(tables, layer)
    for override in overrides or []:
        tables = _merge(tables, _parse_override(override))
    if "scale" in tables:
        raise RecipeError(f"recipe {name!r}: 'scale' is no setting of a recipe; choose it with --scale")
    try:
        return Recipe.model_validate({**tables, "scale": scale})
    except ValidationError as error:
        raise RecipeError(f"recipe {name!r}: {_explain(error)}") from error


def all_recipes(scale: Scale = "paper") -> list[Recipe]:
    """Return every recipe that ships, at ``scale``."""
    return [load_recipe(name, scale) for name in recipe_paths()]


def _find(name: str) -> Path:
    known = recipe_paths()
    if name in known:
        return known[name]
    if name.endswith(".toml") and Path(name).is_file():
        return Path(name)
    raise RecipeError(f"no recipe {name!r}{_nearest(name, known)}; `quarterturn recipes` lists them")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise RecipeError(f"{path} is not valid TOML: {error}") from error


def _scale_layers(scale: Scale, recipe: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the scale's tables that apply, from general to particular: every, objective.KIND, section.X, recipe.NAME.

    A table that names a 'kind' (of network, say) applies only to recipes of that kind, a section's tables only to
    recipes that have such a table.
    """
    tables = _read(SCALE_FILES / f"{scale}.toml")
    objective = recipe.get("objective")
    kind = objective.get("kind") if isinstance(objective, dict) else None
    section = _of(tables, "section", recipe.get("section"))
    layers = [
        tables.get("every", {}),
        _of(tables, "objective", kind),
        {key: value for key, value in section.items() if key in recipe},
        _of(tables, "recipe", recipe.get("name")),
    ]
    return [
        {key: value for key, value in layer.items() if _same_kind(value, recipe.get(key))} for layer in layers if layer
    ]


def _of(tables: dict[str, Any], table: str, name: Any) -> dict[str, Any]:
    """Return a scale's tables for ``name``, which is as the recipe's file has it: perhaps no name at all."""
    found: dict[str, Any] = tables.get(table, {}).get(name, {}) if isinstance(name, str) else {}
    return found


def _same_kind(change: Any, base: Any) -> bool:
    if not (isinstance(change, dict) and isinstance(base, dict)) or "kind" not in change:
        return True
    return bool(change["kind"] == base.get("kind"))


def _merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        kept = merged.get(key)
        if isinstance(value, dict) and isinstance(kept, dict) and _same_kind(value, kept):
            merged[key] = _merge(kept, value)
        else:
            merged[key] = value
    return merged


def _parse_override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {text!r} is not KEY=VALUE, e.g. optimiser.epochs=10")
    *parents, last = key.strip().split(".")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
        if not isinstance(parsed, str) and _is_text(parents, last):
            parsed = value  # a class folder may be called 1_000, which is no other name for 1000
    except tomllib.TOMLDecodeError:
        parsed = value  # a bare word is text
    nested: dict[str, Any] = {}
    here = nested
    for part in parents:
        here = here.setdefault(part, {})
    here[last] = parsed
    return nested


def override_of(key: str, value: Any) -> str:
    """Return the 'key=value' that sets ``key`` to ``value``, plain data that is not None."""
    if not isinstance(value, str):
        return f"{key}={json.dumps(value, ensure_ascii=False)}"
    nested: Any = _parse_override(f"{key}={value}")
    for part in key.split("."):
        nested = nested[part]
    return f"{key}={value if nested == value else json.dumps(value, ensure_ascii=False)}"


def _is_text(parents: list[str], last: str) -> bool:
    """Return whether a setting is text and nothing else, so that what looks like a number or a date is text as well."""
    found = [model.model_fields[last].annotation for model in _models_at(parents) if last in model.model_fields]
    return bool(found) and all(kind in (str, str | None) for kind in found)


def _explain(error: ValidationError) -> str:
    problems = []
    for problem in error.errors():
        where = [str(step) for step in problem["loc"]]
        path = _without_union_tags(where)
        if problem["type"] == "extra_forbidden":
            problems.append(f"unknown key {'.'.join(path)!r}{_nearest_key(path, where[:-1])}")
        else:
            said = problem["msg"].removeprefix("Value error, ")
            problems.append(f"{'.'.join(path)}: {said}" if path else said)
    return "; ".join(problems)


def _without_union_tags(where: list[str]) -> list[str]:
    """Return the path without the values of 'kind' that pydantic puts in where a table has several kinds."""
    return [step for index, step in enumerate(where) if index == 0 or step not in _kinds_of_table(where[:index])]


def _nearest_key(path: list[str], table: list[str]) -> str:
    """Return a hint at the key of ``table`` that is most like ``path``, or at the same key of another table."""
    elsewhere = [
        f"{name}.{key}" for name in Recipe.model_fields for model in _models_at([name]) for key in model.model_fields
    ]
    for key in elsewhere:
        if key.endswith(f".{path[-1]}") and key != ".".join(path):
            return f"; did you mean {key!r}?"
    siblings = [key for model in _models_at(table) for key in model.model_fields]
    close = difflib.get_close_matches(path[-1], siblings, n=1, cutoff=0.4)
    return f"; did you mean {'.'.join([*path[:-1], *close])!r}?" if close else ""


def _kinds_of_table(where: list[str]) -> set[str]:
    return {kind for model in _models_at(where) for kind in _kinds_of(model)}


def _models_at(where: list[str]) -> list[type[BaseModel]]:
    """Return the tables a path may lead to; in it a value of 'kind' chooses among kinds, a number an item of a list."""
    here: list[type[BaseModel]] = [Recipe]
    for step in where:
        if step.isdigit():
            continue
        here = [model for model in here if step in _kinds_of(model)] or [
            found
            for model in here
            if step in model.model_fields
            for found in _models_in(model.model_fields[step].annotation)
        ]
    return here


def _kinds_of(model: type[BaseModel]) -> tuple[Any, ...]:
    return get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else ""
