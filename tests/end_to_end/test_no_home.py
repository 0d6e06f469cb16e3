"""A server of an account without a home, or on a read-only file system: the folder for temporary files is enough."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.ports import free_port
from tests.end_to_end.servers import running
from tests.graphs import write_graph


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc, in which nothing can be made")
def test_a_server_starts_without_a_home(tmp_path: Path) -> None:
    write_graph(tmp_path / "models")
    port = free_port()
    command = [sys.executable, "-m", "serving.cli", "serve", "--models", str(tmp_path / "models"), "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if name != "BENTOML_HOME"}
    with tempfile.TemporaryDirectory() as temporary, (tmp_path / "log").open("w") as log:  # short, for a socket's path
        environment |= {"HOME": "/proc", "TMPDIR": temporary}
        with running(command, port, env=environment, stdout=log, stderr=subprocess.STDOUT):
            assert httpx.get(f"http://localhost:{port}/models", timeout=60).status_code == 200
        assert not list(Path(temporary).glob("quarterturn-server-*"))
