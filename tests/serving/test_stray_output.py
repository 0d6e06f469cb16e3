from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SERVER = """
import logging, os, subprocess, sys
from serving.logs import set_up_logs
from serving.stray_output import catch_stray_output
catch_stray_output()
print("before the log")
sys.stdout.flush()
set_up_logs("json")
catch_stray_output()  # twice is once
logging.getLogger("serving.x").info("a record")
os.write(2, b"in \\x1b[2J C\\n\\n" + b'{"time": "forged"}' + b"\\n\\xff no text")
child = "import os; os.write(1, b'child says\\\\n'); os.write(2, b'child complains\\\\n'); os.abort()"
subprocess.run([sys.executable, "-X", "faulthandler", "-c", child], close_fds=False)
worker = (
    "import logging; from serving.logs import set_up_logs; set_up_logs('json'); "
    "logging.getLogger('serving.y').info('a record of a child')"
)
subprocess.run([sys.executable, "-c", worker], close_fds=False, check=True)
raise ValueError("the last word")
"""


def test_every_line_of_every_process_is_a_record() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", SERVER], capture_output=True, text=True, timeout=60, env=environment)
    assert done.stderr == ""
    records = [json.loads(line) for line in done.stdout.splitlines()]
    said = [(record["logger"], record["level"], record["message"]) for record in records]
    for expected in (
        ("stdout", "info", "before the log"),
        ("serving.x", "info", "a record"),
        ("stderr", "warning", "in \x1b[2J C"),
        ("stderr", "warning", '{"time": "forged"}'),
        ("stdout", "info", "child says"),
        ("stderr", "warning", "Fatal Python error: Aborted"),
        ("serving.y", "info", "a record of a child"),
        ("stderr", "warning", "ValueError: the last word"),
    ):
        assert said.count(expected) == 1, expected
    assert ("stderr", "warning", "\\xff no textchild complains") in said


FULL = """
import logging, os, sys
from serving.logs import set_up_logs
from serving.stray_output import catch_stray_output
catch_stray_output()
set_up_logs("json")
for number in range(2000):
    logging.getLogger("serving.x").warning("a record that has no place")
    os.write(2, b"a line that has none" * 10 + b"\\n")
os.write(result := os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY), b"all said")
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device of a full disk is Linux's")
def test_a_log_that_cannot_be_written_holds_nothing_up(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    said = tmp_path / "said"
    with Path("/dev/full").open("w") as full:
        subprocess.run([sys.executable, "-c", FULL, said], stdout=full, stderr=full, timeout=60, env=environment)
    assert said.read_text() == "all said"
