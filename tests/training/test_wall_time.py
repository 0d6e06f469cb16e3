"""How long a call of reproduce took is kept, printed and reported."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from typer.testing import CliRunner

from tests.training.report_runs import write_run
from training.commands import add_commands
from training.report.report import write_report
from training.reproduce.wall_time import CALLS_FILE, Call, keep_call, read_calls

CALL = Call("figure-5", "cpu", 2, "2 side by side on 2 cores", 754.0, 5, 1, 0, 0)


def test_calls_are_kept_one_a_line_and_a_cut_line_is_passed_over(tmp_path: Path) -> None:
    keep_call(tmp_path, CALL)
    keep_call(tmp_path, CALL)
    path = tmp_path / CALLS_FILE
    assert [json.loads(line)["seconds"] for line in path.read_text().splitlines()] == [754.0, 754.0]
    with path.open("a") as file:
        file.write('{"target": "figu')
    assert read_calls(path) == [CALL, CALL]


def test_a_call_in_words() -> None:
    expected = (
        "figure-5, scale cpu, 2 seeds: 13 min of wall time for 5 jobs, 1 found finished; 2 side by side on 2 cores"
    )
    assert CALL.in_words == expected
    stopped = Call("table-1", "cpu", 1, "here", 30.0, 1, 0, 2, 3)
    assert stopped.in_words == "table-1, scale cpu, 1 seed: 30 s of wall time for 1 job, 2 left to do, 3 failed; here"


def test_a_call_that_stops_at_once_is_kept_and_printed(tmp_path: Path) -> None:
    """Without any time no job begins, so that this needs no training."""
    app = typer.Typer()
    add_commands(app)
    (tmp_path / "cifar10").mkdir()
    arguments = ["reproduce", "figure-5", "--data", str(tmp_path), "--out", str(tmp_path / "runs")]
    done = CliRunner().invoke(app, [*arguments, "--scale", "smoke", "--max-minutes", "0"])
    assert done.exit_code == 75
    (call,) = read_calls(tmp_path / "runs" / CALLS_FILE)
    assert (call.target, call.scale, call.seeds, call.finished, call.stopped) == ("figure-5", "smoke", 1, 0, 3)
    assert 0 <= call.seconds < 60
    assert done.output.splitlines()[-1] == call.in_words


def test_a_report_says_how_long_its_targets_took(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a", "cifar10-baseline")
    keep_call(tmp_path / "runs", CALL)
    written, _ = write_report(tmp_path / "runs", tmp_path / "report")
    sections = {part.split("\n")[0]: part for part in written.read_text().split("\n## ")}
    assert CALL.in_words in sections["Figure 5: out-of-distribution detection, scale cpu"]
    assert sum(CALL.in_words in section for section in sections.values()) == 1
