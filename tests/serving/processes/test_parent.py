from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.processes.parent import VARIABLE, be_parent, is_orphan

# Tells its child that it is the main process, and ends before the child has asked for anything.
MAIN = """
import subprocess, sys
from serving.processes.parent import be_parent
be_parent()
child = "import os, sys; sys.stdin.read(); from serving.processes.parent import is_orphan; print(is_orphan(os.environ))"
subprocess.Popen([sys.executable, "-c", child], stdin=int(sys.argv[1]), stdout=1, close_fds=False)
"""


def test_without_a_main_process_none_is_missed() -> None:
    assert not is_orphan({})


def test_the_main_process_itself_and_its_children_are_no_orphans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    be_parent()
    assert os.environ[VARIABLE] == str(os.getpid())
    assert not is_orphan(os.environ)
    monkeypatch.setenv(VARIABLE, str(os.getppid()))
    assert not is_orphan(os.environ)


@pytest.mark.skipif(os.name != "posix", reason="there a process does not learn of its parent's end")
def test_a_child_whose_main_process_has_ended_is_one() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    reading, writing = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, str(reading)], pass_fds=[reading], stdout=subprocess.PIPE, env=environment
    ) as main:
        assert main.wait(30) == 0
        os.close(reading)
        os.close(writing)  # the child may look now
        assert main.stdout is not None
        assert main.stdout.read() == b"True\n"
