from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serving.processes.server_folder import VARIABLE, ServerFolder, server_folder

SERVER = """
import sys, time
from serving.processes.server_folder import make_server_folder
print(make_server_folder().path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server(tmp_path: Path) -> ServerFolder:
    (tmp_path / "states").mkdir()
    return ServerFolder(tmp_path)


def start(temporary: Path) -> tuple[subprocess.Popen[str], Path]:
    """Run a process that has made its server folder under ``temporary``, until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_models_are_those_adopted_last_and_one_state_before_is_kept(server: ServerFolder) -> None:
    states = []
    for number in range(3):
        states.append(server.new_state())
        (states[-1] / "number").write_text(str(number))
        loading = server.models.resolve()
        server.adopt(states[-1])
        assert (server.models / "number").read_text() == str(number)
        if number:
            assert (loading / "number").read_text() == str(number - 1)
    assert [state.exists() for state in states] == [False, True, True]


def test_a_folder_goes_with_its_process_and_those_left_behind_with_the_next(tmp_path: Path) -> None:
    running, first = start(tmp_path)
    killed, second = start(tmp_path)
    assert first.stat().st_mode & 0o077 == 0
    assert {path.name for path in first.iterdir()} == {"states", "metrics"}
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert second.exists()
    third, _ = start(tmp_path)
    assert first.exists()
    assert not second.exists()
    for process in (running, third):
        process.communicate()
        assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_only_children_of_a_main_process_have_a_folder() -> None:
    assert server_folder({}) is None
    assert server_folder({VARIABLE: "/somewhere"}) == ServerFolder(Path("/somewhere"))
