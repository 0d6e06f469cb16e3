"""The command `quarterturn` as a user meets it: in this process where that is enough, or as a process to be killed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from serving.cli import app, main

START_SECONDS = 120
# A run of 40 short steps with a checkpoint after each: small images, and dropout, whose draws must be the same again.
TINY = (
    "data.size=16",
    "data.shorter_side=16",
    "data.limit_per_class=8",
    "network.dropout=0.3",
    "optimiser.batch=8",
    "optimiser.epochs=40",
    "trainer.checkpoint_minutes=1e-9",
)


@dataclass(frozen=True)
class Done:
    """What a command came to: exit status, standard output, standard error."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The message of a command that ended as a user's error does: one line after 'error: ', status 1."""
        assert self.status == 1, self.err
        assert "Traceback" not in self.err
        last = self.err.strip().splitlines()[-1]
        assert last.startswith("error: ")
        return last.removeprefix("error: ")


def quarterturn(*arguments: object) -> Done:
    """Run the command in this process."""
    out, err = io.StringIO(), io.StringIO()
    commands = list(app.registered_commands)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["quarterturn", *map(str, arguments)])
        patch.setenv("COLUMNS", "200")
        try:
            with pytest.raises(SystemExit) as end:
                main()
        finally:
            app.registered_commands[:] = commands
    assert isinstance(end.value.code, int)
    return Done(end.value.code, out.getvalue(), err.getvalue())


def train_arguments(data_root: Path, run: Path, *more: str, recipe: str = "own-classifier-32") -> list[str]:
    """Return the arguments that train ``recipe`` at smoke scale; TINY settings first, then those in ``more``."""
    settings = [*TINY, *(one for one in more if not one.startswith("-"))]
    flags = [one for one in more if one.startswith("-")]
    changes = [part for one in settings for part in ("--set", one)]
    return ["train", recipe, "--data", str(data_root), "--out", str(run), "--scale", "smoke", *changes, *flags]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """Start the command as a process of its own, with as many threads as the tests have."""
    return subprocess.Popen(
        [sys.executable, "-m", "serving.cli", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_step(process: subprocess.Popen[str], run: Path, step: int) -> None:
    """Wait until a training process has written a checkpoint of ``step`` or later."""
    deadline = time.monotonic() + START_SECONDS
    while recorded_step(run) < step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"step {step} is not reached after {START_SECONDS} seconds"
        time.sleep(0.002)


def recorded_step(run: Path) -> int:
    """Return the step of the latest checkpoint by the run's record; 0 if there is none."""
    path = run / "training.json"
    return int(json.loads(path.read_text()).get("step", 0)) if path.exists() else 0


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file under a folder, hidden ones too, by its path in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
