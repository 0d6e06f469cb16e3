"""The Bento: what ``bentoml build`` packs, and a server that runs from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import pytest
import yaml

from serving.graphs.graph import load_graph
from tests.end_to_end.ports import free_port
from tests.end_to_end.servers import running
from tests.graphs import write_graph

ROOT = Path(__file__).parents[2]
HORSE = (ROOT / "examples" / "horse.png").read_bytes()
PACKED = {"serving", "models", "examples", "LICENSE", "README.md", "bentofile.yaml"}
NOT_PACKED = ("tests", "training", "docs", ".git", ".venv", ".venv-serve", "runs", "data")


def settings(project: Path) -> dict[str, dict[str, object]]:
    """Return what bentofile.yaml says."""
    content: dict[str, dict[str, object]] = yaml.safe_load((project / "bentofile.yaml").read_text())
    return content


def test_the_bento_installs_what_serving_depends_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert settings(ROOT)["python"]["packages"] == project["dependencies"]
    assert f">={settings(ROOT)['docker']['python_version']}" == project["requires-python"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with its models, tiny ones where none ship, and with much that a Bento must not hold."""
    project = tmp_path_factory.mktemp("project")
    for name in (*PACKED, "training", "pyproject.toml"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, project / name)
    for folder in NOT_PACKED:
        (project / folder / "models").mkdir(parents=True)
        (project / folder / "models" / "decoy.py").write_text("# not for the Bento")
    (project / "serving" / "__pycache__").mkdir()
    (project / "serving" / "__pycache__" / "decoy.pyc").write_bytes(b"not for the Bento")
    if not list(project.glob("models/*/model.onnx")):
        write_graph(project / "models", "colours")
        write_graph(project / "models", "views", formula="transformation")
    build = settings(project)
    build["python"]["lock_packages"] = False  # locking asks a package index
    (project / "bentofile.yaml").write_text(yaml.safe_dump(build))
    return project


@pytest.fixture(scope="module")
def bento(project: Path) -> Path:
    """The folder of the built Bento, in the BentoML home of the tests."""
    command = [sys.executable, "-m", "bentoml", "build", "--output", "tag"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    tag = done.stdout.strip().splitlines()[-1].rpartition(":")[2]
    folder = Path(os.environ["BENTOML_HOME"]) / "bentos" / "quarterturn" / tag
    assert folder.is_dir()
    return folder


@pytest.mark.slow
def test_the_bento_holds_the_serving_side_alone(project: Path, bento: Path) -> None:
    packed = bento / "src"
    assert {path.name for path in packed.iterdir()} == PACKED
    assert not list(packed.rglob("*decoy*"))
    for pattern in ("serving/**/*.py", "serving/*_page/**/*.*", "models/**/*.*", "examples/*"):
        expected = {path.relative_to(project): path.read_bytes() for path in project.glob(pattern)}
        assert {path.relative_to(packed): path.read_bytes() for path in packed.glob(pattern)} == expected


@pytest.mark.slow
def test_a_server_from_the_bento_answers(project: Path, bento: Path, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "bentoml", "serve", f"quarterturn:{bento.name}", "--port", str(port)]
    digests = {path.parent.name: load_graph(path).digest for path in project.glob("models/*/model.onnx")}
    with (
        (tmp_path / "log").open("w") as log,
        running(command, port, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT),
        httpx.Client(base_url=f"http://localhost:{port}", timeout=60) as client,
    ):
        listed = client.get("/models").json()
        answer = client.post("/classify", files={"images": HORSE})
        assert client.get("/nothing").status_code == 404
        metrics = client.get("/metrics").raise_for_status().text
    assert {model["name"]: model["digest"] for model in listed["models"]} == digests
    assert answer.status_code == 200
    assert answer.json()["model"]["digest"] == digests[answer.json()["model"]["name"]]
    assert 0 < answer.json()["results"][0]["probability"] <= 1
    assert 'quarterturn_requests_total{endpoint="other",status="404"} 1.0' in metrics
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log
    assert "/nothing" not in metrics + log
