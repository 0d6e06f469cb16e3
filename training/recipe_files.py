"""Finding recipes by name, applying a scale and ``--set`` overrides, and saying what is wrong with one."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from training.recipe import SCALES, Recipe, Scale

RECIPES = Path(__file__).parent / "recipes"
SCALE_FILES = RECIPES / "scales"


class RecipeError(ValueError):
    """A recipe that does not exist or is not valid; the message names the key and the nearest known one."""


def recipe_paths() -> dict[str, Path]:
    """Return the recipe files that ship, by recipe name, in order of section and file name."""
    return {
        path.stem: path for path in sorted(RECIPES.rglob("*.toml")) if SCALE_FILES not in path.parents
    }


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
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path.name} is not valid TOML: {error}") from error


def _scale_layers(scale: Scale, recipe: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the scale's tables that apply, from general to particular: every, objective.KIND, recipe.NAME."""
    tables = _read(SCALE_FILES / f"{scale}.toml")
    kind = recipe.get("objective", {}).get("kind", "")
    layers = [
        tables.get("every", {}),
        tables.get("objective", {}).get(kind, {}),
        tables.get("recipe", {}).get(recipe.get("name", ""), {}),
    ]
    return [layer for layer in layers if layer]


def _merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        kept = merged.get(key)
        both = isinstance(value, dict) and isinstance(kept, dict)
        if both and value.get("kind", kept.get("kind")) == kept.get("kind"):
            merged[key] = _merge(kept, value)
        else:
            merged[key] = value
    return merged


def _parse_override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {text!r} is not KEY=VALUE, e.g. optimiser.epochs=10")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value  # a bare word is text
    nested: dict[str, Any] = {}
    here = nested
    *parents, last = key.strip().split(".")
    for part in parents:
        here = here.setdefault(part, {})
    here[last] = parsed
    return nested


def _explain(error: ValidationError) -> str:
    problems = []
    for problem in error.errors():
        where = [str(step) for step in problem["loc"]]
        if problem["type"] == "extra_forbidden":
            known = _keys_at(Recipe, where[:-1])
            path = [step for step in where if step not in _union_tags()]
            problems.append(f"unknown key {'.'.join(path)!r}{_nearest(where[-1], known)}")
        else:
            path = [step for step in where if step not in _union_tags()]
            problems.append(f"{'.'.join(path)}: {problem['msg']}" if path else problem["msg"])
    return "; ".join(problems)


def _union_tags() -> set[str]:
    """Return the values of 'kind', which pydantic puts into the path of an error inside a union."""
    return {"wide_resnet", "resnet18", "classification", "transformations"}


def _keys_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """Return the known keys of the table at ``path`` (union tags in the path choose the member)."""
    keys: list[str] = []
    here: list[type[BaseModel]] = [model]
    for step in path:
        if step in _union_tags():
            here = [
                member for member in here if "kind" in member.model_fields and step in _kind_of(member)
            ]
            continue
        here = [
            found
            for member in here
            if step in member.model_fields
            for found in _models_in(member.model_fields[step].annotation)
        ]
    for member in here:
        keys += list(member.model_fields)
    return keys


def _kind_of(model: type[BaseModel]) -> tuple[Any, ...]:
    return get_args(model.model_fields["kind"].annotation)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is None:
        return []
    return [found for argument in get_args(annotation) for found in _models_in(argument)]


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else ""
