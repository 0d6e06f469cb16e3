"""The README's commands, run as they stand there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.end_to_end.ports import free_port
from tests.end_to_end.servers import running
from tests.likeness import assert_like
from tests.training.patterns import write_class_folders

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block_after(heading: str, language: str) -> str:
    """Return the first code block of ``language`` below a heading of the README."""
    section = README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found, f"no {language} block under {heading!r}"
    return found.group(1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_make_serve_answers_as_the_readme_says(tmp_path: Path) -> None:
    """`make serve` sets up an environment without torch and serves; the README's curl gets the README's answer."""
    port = free_port()
    subprocess.run(["make", ".venv-serve/ready"], cwd=ROOT, check=True)
    python = ROOT / ".venv-serve" / "bin" / "python"
    packages = json.loads(subprocess.check_output([python, "-m", "pip", "list", "--format", "json"], text=True))
    installed = {package["name"].lower() for package in packages}
    assert "bentoml" in installed
    assert not installed & {"torch", "torchvision", "lightning-fabric", "onnxscript", "scikit-learn"}

    curl = [line for line in block_after("Serve", "sh").splitlines() if not line.startswith("#")]
    assert curl[0] == "make serve"
    log = tmp_path / "server.log"
    with (
        log.open("w") as output,
        running(["make", "serve", f"PORT={port}"], port, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT),
    ):
        answers = []
        for line in curl[1:]:
            command = line.replace(":3000", f":{port}")
            answers.append(json.loads(subprocess.check_output(command, shell=True, cwd=ROOT, text=True)))
        deadline = time.monotonic() + 10
        while "Try: curl" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
    assert "curl -F images=@examples/horse.png" in log.read_text()
    assert "Traceback" not in log.read_text()
    printed = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", README, re.DOTALL)]
    assert len(printed) == len(answers)
    for given, shown in zip(answers, printed, strict=True):
        assert_like(given, shown)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_own_images_from_training_to_an_answer(tmp_path: Path) -> None:
    """The five lines under 'Train on your own images', on a small folder."""
    write_class_folders(tmp_path / "data" / "photos" / "train", per_class=24)
    write_class_folders(tmp_path / "data" / "photos" / "test", per_class=8, first=1000)
    lines = block_after("Train on your own images", "sh").splitlines()
    assert len(lines) == 5
    scripts = ROOT / ".venv" / "bin"
    environment = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}"}
    if not scripts.is_dir():
        assert shutil.which("quarterturn"), "quarterturn is neither in .venv nor on PATH"
    for line in lines[:-1]:
        done = subprocess.run(line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "my-models" / "photos" / "README.md").is_file()
    port = free_port()
    serve = [*lines[-1].split(), "--port", str(port)]
    image = next((tmp_path / "data" / "photos" / "test" / "arrow").iterdir())
    with running(serve, port, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL):
        asked = ["curl", "-s", "-F", f"images=@{image}", f"http://localhost:{port}"]
        [classified] = json.loads(subprocess.check_output([*asked[:-1], asked[-1] + "/classify"]))["results"]
        [scored] = json.loads(subprocess.check_output([*asked[:-1], asked[-1] + "/anomaly_score"]))["results"]
    assert {entry["label"] for entry in classified["top"]} <= {"arrow", "corner", "ramp"}
    assert scored["kl_rotation"]["model"] == "photos"
    assert 0 < scored["kl_rotation"]["p_value"] <= 1
