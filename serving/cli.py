"""The command ``quarterturn``: serve, score and models here; the offline commands come from the entry points.

An error of the project's own is a message to the user: one line on standard error, exit status 1. Commands that need
more than a serving install say how to get it, exit status 2.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from serving.settings import Settings

COMMANDS_GROUP = "quarterturn.commands"
OFFLINE_COMMANDS = ("recipes", "data", "train", "evaluate", "export", "reproduce", "report")
HOW_TO_GET_TRAINING = "in the checkout, pip install -e '.[train]'"

app = typer.Typer(
    name="quarterturn",
    help="Classify images, and tell which are unlike anything the models were trained on.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ModelsFolder = Annotated[Path | None, typer.Option(help="folder of the graphs; by default models/ beside the code")]


@app.command()
def serve(
    models: ModelsFolder = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 3000,
    host: Annotated[str, typer.Option(help="address to listen on; 0.0.0.0 for all")] = "127.0.0.1",
    workers: Annotated[int, typer.Option(min=1, help="server processes")] = 1,
    default_classifier: Annotated[str | None, typer.Option(help="the classifier that runs by default")] = None,
    one_class: Annotated[
        list[str] | None, typer.Option(help="one-class model that runs by default; repeatable")
    ] = None,
) -> None:
    """Serve the models over HTTP. Further settings: environment variables QUARTERTURN_*."""
    from serving.launch import launch

    launch(_settings(models, default_classifier, one_class), host, port, workers)


@app.command()
def score(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="image files, and folders of them")],
    out: Annotated[Path, typer.Option(help="file to write, whose name ends in .csv, .jsonl or .parquet")],
    model: Annotated[
        list[str] | None, typer.Option(help="model to run; repeatable; by default as the server chooses")
    ] = None,
    models: ModelsFolder = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="is_anomaly where a p-value is at most this; by default QUARTERTURN_ALPHA, 0.05"),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="drop what an interrupted run has left")] = False,
) -> None:
    """Score images without a server: one row a file and model.

    The same command goes on where an interrupted one stopped, from the file OUT.part.
    """
    from serving.graphs.alarms import alpha_warnings, calibration_warnings
    from serving.interrupts import one_interrupt
    from serving.printable import printable
    from serving.progress import progress_of
    from serving.score.formats import writer_for
    from serving.score.pipeline import Scorer
    from serving.score.table import score_table

    settings = _settings(models)
    if alpha is None:
        alpha = settings.alpha
    elif not 0 < alpha < 1:
        raise typer.BadParameter("takes a number between 0 and 1, both excluded", param_hint="--alpha")
    writer_for(out)
    scorer = Scorer.load(settings, model or [])
    for warning in (*alpha_warnings(scorer.graphs, alpha), *calibration_warnings(scorer.graphs)):
        typer.echo(f"warning: {warning}", err=True)
    try:
        with one_interrupt(), progress_of("scoring") as progress:
            summary = score_table(paths, out, scorer, alpha, restart=restart, progress=progress)
    except KeyboardInterrupt:
        typer.echo("interrupted: the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    if summary.linked_folders:
        typer.echo(f"warning: links to folders are not followed: {summary.linked_folders} passed by", err=True)
    noun = "anomaly" if summary.anomalies == 1 else "anomalies"
    count = len(scorer.graphs)
    shared = "" if count == 1 else f" (a p-value of {summary.threshold:g} or less from one of {count} models)"
    before = f", {summary.kept} of them by the interrupted run" if summary.kept else ""
    typer.echo(
        f"{summary.files - summary.bad} of {summary.files} files scored{before}, {summary.bad} bad, "
        f"{summary.anomalies} {noun} at alpha {alpha:g}{shared}: {printable(out)}"
    )


@app.command()
def calibrate(
    model: Annotated[str, typer.Option(help="the model to start from")],
    images: Annotated[Path, typer.Option(metavar="FOLDER", help="normal images, none that the model was trained on")],
    name: Annotated[str | None, typer.Option(help="name of the new model; by default MODEL-calibrated")] = None,
    models: ModelsFolder = None,
    force: Annotated[bool, typer.Option("--force", help="replace a model of that name")] = False,
) -> None:
    """Calibrate a model on images of your own, without training: a new model beside the old one.

    Prints how the old and the new scores differ.
    """
    from serving.interrupts import one_interrupt
    from serving.progress import progress_of
    from serving.recalibrate.new_graph import recalibrate
    from serving.recalibrate.report import report, warnings

    settings = _settings(models)
    name = name or f"{model}-calibrated"
    with one_interrupt(), progress_of("scoring") as progress:
        done = recalibrate(model, images, name, settings, force=force, progress=progress)
    for line in warnings(done):
        typer.echo(line, err=True)
    typer.echo(report(done))


@app.command(name="models")
def list_models(models: ModelsFolder = None) -> None:
    """List the models: what each knows, what was measured, and which run by default."""
    from rich.console import Console

    from serving.graphs.collection import CollectionError, load_collection
    from serving.listing import load_graphs, models_table

    settings = _settings(models)
    Console().print(models_table(load_graphs(settings.models)))
    try:
        chosen = load_collection(settings.models, settings).default.graphs
        typer.echo(f"by default: {', '.join(graph.name for graph in chosen)}")
    except CollectionError as error:
        typer.echo(f"a server would not start: {error}")


def main() -> None:
    """Run the command line of this process."""
    add_offline_commands(app)
    try:
        app()
    except ModuleNotFoundError as error:
        _exit(f"this command needs the package {error.name!r}: {HOW_TO_GET_TRAINING}", 2)
    except Exception as error:
        if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in ("serving", "training"):
            _exit(str(error), 1)
        raise


def add_offline_commands(target: typer.Typer) -> None:
    """Add the commands of the entry points, and for each that is missing one that says how to get it."""
    for entry in entry_points(group=COMMANDS_GROUP):
        try:
            add_commands = entry.load()
        except ModuleNotFoundError:
            continue
        add_commands(target)
    present = {command.name or getattr(command.callback, "__name__", "") for command in target.registered_commands}
    for name in OFFLINE_COMMANDS:
        if name not in present:
            target.command(
                name,
                help=f"Not installed: {HOW_TO_GET_TRAINING}",
                context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
            )(_not_installed)


def _not_installed(context: typer.Context) -> None:
    _exit(f"`quarterturn {context.info_name}` needs the training packages: {HOW_TO_GET_TRAINING}", 2)


def _settings(
    models: Path | None, default_classifier: str | None = None, one_class: list[str] | None = None
) -> Settings:
    """Return the settings of the environment, with those given on the command line over them."""
    given = {
        "models": models,
        "default_classifier": default_classifier,
        "one_class": tuple(one_class) if one_class else None,
    }
    settings = Settings.from_environment(os.environ)
    return settings.model_copy(update={name: value for name, value in given.items() if value is not None})


def _exit(message: str, status: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
