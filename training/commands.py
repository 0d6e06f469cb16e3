"""The offline subcommands of `quarterturn`: recipes, data, train, evaluate, export, reproduce, report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from training.recipe import SCALES, Scale

SEED = Annotated[int, typer.Option(min=0, max=2**63 - 1)]


def add_commands(app: typer.Typer) -> None:
    """Add the offline subcommands to ``app``; called through the entry-point group 'quarterturn.commands'."""
    for command in (recipes, data, train, evaluate, export, reproduce, report):
        app.command()(command)


def recipes(as_json: Annotated[bool, typer.Option("--json", help="print a JSON list")] = False) -> None:
    """List the recipes: every model of the paper so far, and those for images of your own."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from training.published import DERIVED, with_mark
    from training.recipe_files import all_recipes

    listed = all_recipes()
    if as_json:
        fields = {"name", "targets", "row", "method", "published"}
        typer.echo(json.dumps([recipe.model_dump(mode="json", include=fields) for recipe in listed], indent=2))
        return
    table = Table(Column("recipe", no_wrap=True), "target", "row", "published")
    for recipe in listed:
        figures = ", ".join(f"{figure.metric} {with_mark(figure.value, figure.derived)}" for figure in recipe.published)
        table.add_row(recipe.name, ", ".join(recipe.targets) or "-", escape(recipe.row), figures or "-")
    Console().print(table)
    typer.echo(DERIVED)


def data(
    root: Annotated[Path, typer.Option(help="data root: one folder a data set")] = Path("data"),
    download: Annotated[str | None, typer.Option(metavar="NAME", help="fetch a data set into the root")] = None,
    generate: Annotated[str | None, typer.Option(metavar="NAME", help="make a data set in the root: cifar10-c")] = None,
    source: Annotated[str, typer.Option(metavar="NAME", help="generate it from its test images")] = "cifar10",
    limit: Annotated[int, typer.Option(min=0, help="generate it from about so many of the images; 0: all")] = 0,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="of the generated draws")] = 0,
) -> None:
    """Say which data sets are in a data root, which are missing, and how to get them; fetch or make one."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from serving.printable import printable
    from training.data import catalog
    from training.data_root import ARRAYS, data_set_states

    if download is not None:
        catalog.download(root, download)
    if generate is not None:
        _generate(root, generate, source, limit, seed)
    table = Table("data set", "there", "for", "how to get it")
    for state in data_set_states(root):
        table.add_row(*(escape(printable(cell)) for cell in (state.name, state.there, state.purpose, state.how)))
    Console().print(table)
    typer.echo(ARRAYS)


def _generate(root: Path, name: str, source: str, limit: int, seed: int) -> None:
    from training.corruptions.generate import generate
    from training.corruptions.layout import NAME
    from training.data.image_set import DataError

    if name != NAME:
        raise DataError(f"cannot generate {name!r}; can: {NAME}")
    mark = generate(root, source=source, seed=seed, limit=limit)
    typer.echo(f"{root / name}: {len(mark['made'])} corruptions of {mark['source']['count']} images of {source}")


def train(
    recipe: Annotated[str, typer.Argument(help="name of a recipe (see `quarterturn recipes`), or a TOML file")],
    data: Annotated[Path, typer.Option(help="data root: one folder a data set")],
    out: Annotated[Path, typer.Option(help="run folder to write")],
    scale: Annotated[str, typer.Option(help="paper, cpu or smoke")] = "paper",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a setting; repeatable")
    ] = None,
    seed: SEED = 0,
    resume: Annotated[bool, typer.Option("--resume", help="go on from the run's last checkpoint")] = False,
    max_minutes: Annotated[float | None, typer.Option(min=0.0, help="stop at a checkpoint after so long")] = None,
    shared: Annotated[Path | None, typer.Option(help="folder in which runs share their rotation pre-training")] = None,
) -> None:
    """Train a recipe on the images of a data root."""
    from training.recipe_files import load_recipe
    from training.run_folder import RunFolder
    from training.shared_phases import SharedPhases
    from training.training_run import train_recipe

    resolved = load_recipe(recipe, _scale(scale), overrides)
    _warn_of_scale(resolved.scale)
    phases = None if shared is None else SharedPhases(shared)
    outcome = train_recipe(
        resolved, data, RunFolder(out), seed=seed, resume=resume, max_minutes=max_minutes, shared=phases
    )
    done = "finished" if outcome.finished else "stopped at a checkpoint; --resume goes on"
    typer.echo(
        f"{resolved.name}: step {outcome.step} of {outcome.steps}, {outcome.views} views "
        f"in {outcome.seconds / 60:.1f} min; {done}"
    )


def evaluate(
    run: Annotated[Path, typer.Argument(help="run folder of a trained recipe")],
    data: Annotated[Path, typer.Option(help="data root: one folder a data set")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
) -> None:
    """Run a recipe's own evaluation: writes RUN/evaluation.json and prints a table."""
    from rich.console import Console

    from training.evaluation import evaluate_run
    from training.evaluation_table import print_evaluation
    from training.run_folder import RunFolder

    if device not in ("auto", "cpu", "cuda"):
        raise typer.BadParameter("is auto, cpu or cuda", param_hint="--device")
    evaluation = evaluate_run(RunFolder(run), data, device=device)  # type: ignore[arg-type]  # checked above
    print_evaluation(evaluation, Console())


def export(
    run: Annotated[Path, typer.Argument(help="run folder of a trained recipe")],
    name: Annotated[str, typer.Option(help="name of the model")],
    models: Annotated[
        Path | None, typer.Option(help="folder of graphs, NAME/model.onnx in it; by default models/ beside the code")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8")] = "fp32",
    max_loss: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="of accuracy and of AUROC, that fp16 or int8 may lose")
    ] = 0.01,
    data: Annotated[Path | None, typer.Option(help="data root, if the images have moved since training")] = None,
    with_network: Annotated[Path | None, typer.Option(help="also write the bare network to this file")] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="evaluated run of an equally trained network, to print beside")
    ] = None,
) -> None:
    """Export a run as one ONNX graph with its calibration and model card. Replaces a model of that name."""
    from serving.settings import default_models_folder
    from training.export import export_run
    from training.run_folder import RunFolder

    exported = export_run(
        RunFolder(run),
        name,
        models or default_models_folder(),
        data_root=data,
        precision=precision,
        max_loss=max_loss,
        with_network=with_network,
        baseline=None if baseline is None else RunFolder(baseline),
    )
    typer.echo(f"{exported.path}: {exported.size / 1e6:.2f} MB, {exported.digest}")


def reproduce(
    target: Annotated[str, typer.Argument(help="table-1, table-2, figure-2, figure-3, figure-4 or figure-5")],
    data: Annotated[Path, typer.Option(help="data root: one folder a data set")],
    out: Annotated[Path, typer.Option(metavar="RUNS", help="folder of run folders; finished ones are not run again")],
    scale: Annotated[str, typer.Option(help="paper, cpu or smoke")] = "paper",
    seeds: Annotated[int, typer.Option(min=1, help="train each network with seeds 0 to N - 1")] = 1,
    engine: Annotated[str, typer.Option(help="local: this machine; ray: a Ray cluster")] = "local",
    max_minutes: Annotated[float | None, typer.Option(min=0.0, help="stop at checkpoints after so long")] = None,
) -> None:
    """Train and evaluate every network of a table or figure; goes on where it stopped.

    Exit status: 0 all done, 1 a job failed, 75 some are left to do.
    """
    from training.reproduce.reproduce import reproduce as reproduce_target
    from training.reproduce.reproduce import summary

    if engine == "local":
        _warn_of_scale(_scale(scale))
    reproduced = reproduce_target(
        target, data, out, scale=_scale(scale), seeds=seeds, engine=engine, max_minutes=max_minutes
    )
    for line in (*summary(reproduced.outcome, out), reproduced.call.in_words):
        typer.echo(line)
    raise typer.Exit(reproduced.outcome.exit_status)


def report(
    runs: Annotated[Path, typer.Argument(help="folder of run folders, at any depth")],
    out: Annotated[Path, typer.Option(help="folder to write report.md and report.html into")],
    scale: Annotated[str | None, typer.Option(help="only runs of this scale")] = None,
) -> None:
    """Write the paper's tables and figures, measured beside published."""
    from training.report.report import write_report

    for path in write_report(runs, out, None if scale is None else _scale(scale)):
        typer.echo(path)


def _warn_of_scale(scale: Scale) -> None:
    """Say so where a training as published, which is for a GPU, begins without one."""
    from training.environment import accelerator, is_first_process

    if scale == "paper" and accelerator() == "cpu" and is_first_process():
        typer.echo(
            "warning: scale paper without a GPU takes days a network; --scale cpu takes minutes to an hour", err=True
        )


def _scale(text: str) -> Scale:
    from training.recipe_files import RecipeError

    for scale in SCALES:
        if text == scale:
            return scale
    raise RecipeError(f"no scale {text!r}; the scales are {', '.join(SCALES)}")
