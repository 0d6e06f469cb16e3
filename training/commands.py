"""The offline subcommands of `quarterturn`: recipes, data, train, evaluate, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.recipe import Scale


def add_commands(app: typer.Typer) -> None:
    """Add the offline subcommands to ``app``; called through the entry-point group 'quarterturn.commands'."""
    for command in (train,):
        app.command()(command)


def train(
    recipe: Annotated[str, typer.Argument(help="name of a recipe (see `quarterturn recipes`), or a TOML file")],
    data: Annotated[Path, typer.Option(help="data root: one folder a data set")],
    out: Annotated[Path, typer.Option(help="run folder to write")],
    scale: Annotated[str, typer.Option(help="paper, cpu or smoke")] = "paper",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a setting; repeatable")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="go on from the run's last checkpoint")] = False,
    max_minutes: Annotated[float | None, typer.Option(min=0.0, help="stop at a checkpoint after so long")] = None,
) -> None:
    """Train a recipe on the images of a data root."""
    from training.recipe_files import load_recipe
    from training.run_folder import RunFolder
    from training.training_run import train_recipe

    resolved = load_recipe(recipe, _scale(scale), overrides)
    run = RunFolder(out)
    outcome = train_recipe(resolved, data, run, seed=seed, resume=resume, max_minutes=max_minutes)
    minutes = outcome.seconds / 60
    done = "finished" if outcome.finished else f"stopped at a checkpoint; `--resume` goes on with {out}"
    typer.echo(
        f"{resolved.name}: step {outcome.step} of {outcome.steps}, {outcome.views} views in {minutes:.1f} min; {done}"
    )


def _scale(text: str) -> Scale:
    from training.recipe import SCALES
    from training.recipe_files import RecipeError

    for scale in SCALES:
        if text == scale:
            return scale
    raise RecipeError(f"no scale {text!r}; the scales are {', '.join(SCALES)}")
