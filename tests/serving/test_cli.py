from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from PIL import Image
from pyarrow import parquet
from typer.testing import CliRunner

from serving.cli import HOW_TO_GET_TRAINING, OFFLINE_COMMANDS, add_offline_commands, app
from serving.launch import EXAMPLE_IMAGE, example_command
from serving.score.pipeline import FILES_PER_BATCH
from tests.graphs import solid, write_graph
from tests.serving.image_folders import greys, save_greys


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_graph(folder, "colours")
    write_graph(folder, "views", formula="transformation")
    return folder


def quarterturn(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, as a user does."""
    command = [sys.executable, "-m", "serving.cli", *map(str, arguments)]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


def error_of(result: subprocess.CompletedProcess[str]) -> str:
    """Return the message of a run that ended as an error of the user's: one line, status 1."""
    assert result.returncode == 1, result.stderr
    *_, line = result.stderr.strip().splitlines()
    assert "Traceback" not in result.stderr
    return line.removeprefix("error: ")


def test_score_writes_one_line_a_file_and_model(tmp_path: Path, models: Path) -> None:
    Image.fromarray(solid(0)).save(tmp_path / "black.png")
    Image.fromarray(solid(255)).save(tmp_path / "white.png")
    (tmp_path / "notes.txt").write_text("no image")
    out = tmp_path / "scores.csv"
    result = quarterturn("score", tmp_path, "--models", models, "--out", out)
    assert result.returncode == 0, result.stderr
    assert (
        "2 of 3 files scored, 1 bad, 1 anomaly at alpha 0.05 (a p-value of 0.025 or less from one of 2 models): "
        in result.stdout
    )
    with out.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(Path(row["path"]).name, row["model"], row["is_anomaly"]) for row in rows] == [
        ("black.png", "colours", "false"),
        ("black.png", "views", "false"),
        ("notes.txt", "colours", ""),
        ("notes.txt", "views", ""),
        ("white.png", "colours", "true"),
        ("white.png", "views", "true"),
    ]
    assert rows[2]["error"]


def test_score_runs_the_models_named_at_the_alpha_given(tmp_path: Path, models: Path) -> None:
    Image.fromarray(solid(255)).save(tmp_path / "white.png")
    out = tmp_path / "scores.csv"
    runner = CliRunner()
    arguments = ["score", str(tmp_path / "white.png"), "--models", str(models), "--out", str(out)]
    result = runner.invoke(app, [*arguments, "--model", "views", "--alpha", "0.001"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "0 anomalies at alpha 0.001: " in result.output
    assert "warning: views can never raise the alarm at alpha 0.001" in result.stderr
    (row,) = csv.DictReader(out.read_text().splitlines())
    assert (row["model"], row["is_anomaly"]) == ("views", "false")
    assert runner.invoke(app, [*arguments, "--alpha", "1.5"]).exit_code == 2
    # Of two models each has half of alpha.
    result = runner.invoke(app, [*arguments, "--alpha", "0.015"], catch_exceptions=False)
    assert "warning: views can never raise the alarm at alpha 0.015" in result.stderr
    assert "0 anomalies at alpha 0.015 (a p-value of 0.0075 or less from one of 2 models)" in result.output


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_score_writes_what_the_name_says(tmp_path: Path, models: Path, ending: str) -> None:
    Image.fromarray(solid(255)).save(tmp_path / "white.png")
    out = tmp_path / f"scores{ending}"
    arguments = ["score", str(tmp_path / "white.png"), "--models", str(models), "--out", str(out)]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    read = {
        ".jsonl": lambda: [json.loads(line) for line in out.read_text().splitlines()],
        ".parquet": lambda: parquet.read_table(out).to_pylist(),
    }
    assert [(row["model"], row["p_value"], row["is_anomaly"]) for row in read[ending]()] == [
        ("colours", 0.01, True),
        ("views", 0.01, True),
    ]


def test_score_that_is_interrupted_says_how_to_go_on(tmp_path: Path, models: Path) -> None:
    """Ctrl-C as a terminal sends it, at the first rows that are kept; then the same command, to the end."""
    save_greys(tmp_path / "photos", range(100))
    code = (
        "import os, signal, sys; from serving import cli; from serving.score import journal\n"
        "flush = journal.Journal.flush\n"
        "def interrupted(journal): flush(journal); os.kill(os.getpid(), signal.SIGINT)\n"
        "journal.Journal.flush = interrupted\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "cli.main()\n"
    )
    arguments = ["score", str(tmp_path / "photos"), "--models", str(models), "--out", str(tmp_path / "scores.csv")]
    stopped = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)
    assert stopped.returncode == 130
    assert stopped.stderr.splitlines()[-1] == "interrupted: the same command goes on from here"
    assert "Traceback" not in stopped.stderr
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert f"100 of 100 files scored, {FILES_PER_BATCH} of them by the interrupted run" in done.output


def test_calibrate_writes_a_model_and_says_how_the_scores_differ(tmp_path: Path) -> None:
    write_graph(tmp_path / "models", "colours")
    photos = save_greys(tmp_path / "photos", greys(40, 150, 250))
    (photos / "notes\n.txt").write_text("no image")
    arguments = ("calibrate", "--model", "colours", "--images", photos, "--models", tmp_path / "models")
    result = quarterturn(*arguments)
    assert result.returncode == 0, result.stderr
    assert "colours-calibrated/model.onnx: calibrated on 40 images; 1 left out" in result.stdout
    assert "Not the same distribution, and strange to this network" in result.stdout
    left_out, warning = result.stderr.splitlines()
    assert left_out.startswith(f"left out: {photos}/notes\\n.txt: no image")
    assert warning.startswith("warning: with 40 images the smallest p-value is 0.024")
    assert (tmp_path / "models" / "colours-calibrated" / "README.md").is_file()
    assert "is there already" in error_of(quarterturn(*arguments))
    named = quarterturn(*arguments, "--name", "mine", "--force")
    assert "models/mine/model.onnx: calibrated on 40 images" in named.stdout


def test_models_lists_them_and_says_which_run_by_default(models: Path) -> None:
    result = CliRunner().invoke(app, ["models", "--models", str(models)], catch_exceptions=False)
    assert result.exit_code == 0
    for text in ("colours", "views", "one_class", "36 views", "accuracy 0.5", "by default: colours, views"):
        assert text in result.output


def test_models_passes_by_what_is_no_file(tmp_path: Path) -> None:
    write_graph(tmp_path, "colours")
    (tmp_path / "folder" / "model.onnx").mkdir(parents=True)
    done = CliRunner().invoke(app, ["models", "--models", str(tmp_path)])
    assert done.exit_code == 0
    assert "colours" in done.output


def test_models_lists_what_a_server_would_not_start_with(tmp_path: Path) -> None:
    write_graph(tmp_path, "one")
    write_graph(tmp_path, "two")
    result = CliRunner().invoke(app, ["models", "--models", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "a server would not start: several classifiers are loaded (one, two)" in result.output


def test_what_the_user_got_wrong_is_said_in_one_line(tmp_path: Path, models: Path) -> None:
    out = tmp_path / "scores.csv"
    assert error_of(quarterturn("score", tmp_path / "nowhere", "--out", out)).endswith(
        "nowhere: no such file or folder"
    )
    image = tmp_path / "white.png"
    Image.fromarray(solid(255)).save(image)
    message = error_of(quarterturn("score", image, "--models", models, "--model", "view", "--out", out))
    assert message == "unknown model 'view'; did you mean 'views'?"
    message = error_of(quarterturn("score", image, "--models", models, "--out", tmp_path / "scores.txt"))
    assert message == "'scores.txt' must end in .csv, .jsonl or .parquet, which says how rows are written"
    assert "QUARTERTURN_ALPHA" in error_of(quarterturn("models", QUARTERTURN_ALPHA="2"))
    assert not out.exists()


@pytest.mark.parametrize("name", OFFLINE_COMMANDS)
def test_a_serving_install_says_how_to_get_the_offline_commands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.cli.entry_points", lambda group: [])
    slim = typer.Typer(rich_markup_mode=None)
    add_offline_commands(slim)
    assert CliRunner().invoke(slim, [name, "some-recipe", "--data", "x"]).exit_code == 2
    assert HOW_TO_GET_TRAINING in CliRunner().invoke(slim, [name, "--help"]).output


def test_offline_commands_without_torch_say_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    arguments = ("train", "cifar10-rotations", "--data", tmp_path, "--out", tmp_path / "run", "--scale", "smoke")
    result = quarterturn(*arguments, PYTHONPATH=str(tmp_path))
    assert result.returncode == 2, result.stderr
    assert HOW_TO_GET_TRAINING in result.stderr
    assert "Traceback" not in result.stderr


def test_the_help_names_every_command() -> None:
    result = quarterturn("--help")
    assert result.returncode == 0
    for name in ("serve", "score", "calibrate", "models", *OFFLINE_COMMANDS):
        assert name in result.stdout


def test_the_command_to_try_names_an_image_that_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLE_IMAGE.parents[1])
    image = "examples/horse.png" if EXAMPLE_IMAGE.exists() else "your-image.jpg"
    assert example_command("http://localhost:3000") == f"curl -F images=@{image} http://localhost:3000/anomaly_score"
