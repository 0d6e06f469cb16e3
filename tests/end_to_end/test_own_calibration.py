"""A model calibrated on a user's own images, served: false alarms come as often as alpha says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.end_to_end.ports import free_port
from tests.end_to_end.servers import running
from tests.end_to_end.tiny_server import png
from tests.graphs import solid, write_graph

COMMAND = [sys.executable, "-m", "serving.cli"]
IMAGES = 1500
A_REQUEST = 60
ALPHA = 0.05


def colours(count: int, low: int, high: int, seed: int) -> list[bytes]:
    """Return PNG files of one colour each, all different, their channels drawn from ``low`` to ``high``."""
    each = high - low + 1
    chosen = np.random.default_rng(seed).choice(each**3, count, replace=False)
    drawn = low + np.stack(np.unravel_index(chosen, (each, each, each)), axis=1)
    return [png(solid(colour.tolist())) for colour in drawn]


def flagged(client: httpx.Client, model: str, images: Sequence[bytes]) -> float:
    """Return the share of images that raise the alarm of a model."""
    verdicts: list[bool] = []
    for start in range(0, len(images), A_REQUEST):
        files = [("images", (f"{index}.png", image)) for index, image in enumerate(images[start : start + A_REQUEST])]
        answer = client.post("/anomaly_score", files=files, data={"model": model, "alpha": str(ALPHA)})
        assert answer.status_code == 200, answer.text
        verdicts += [result["is_anomaly"] for result in answer.json()["results"]]
    return float(np.mean(verdicts))


def test_own_images_raise_false_alarms_as_often_as_alpha_says(tmp_path: Path) -> None:
    """The graph knows black to light grey; the user's images are light to white, and it alarms at many of them."""
    models, photos = tmp_path / "models", tmp_path / "photos"
    write_graph(models, "colours")
    photos.mkdir()
    for index, image in enumerate(colours(IMAGES, 170, 230, seed=1)):
        (photos / f"{index:05}.png").write_bytes(image)
    arguments = ["calibrate", "--model", "colours", "--images", photos, "--name", "mine", "--models", models]
    calibrated = subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert calibrated.returncode == 0, calibrated.stderr
    assert "**Not the same distribution, and strange to this network**" in calibrated.stdout
    port = free_port()
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    serve = ["serve", "--port", str(port), "--models", str(models), "--default-classifier", "mine"]
    with (
        running([*COMMAND, *serve], port, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL),
        httpx.Client(base_url=f"http://localhost:{port}", timeout=60) as client,
    ):
        mine = {model["name"]: model for model in client.get("/models").json()["models"]}["mine"]
        assert mine["calibration"]["n"] == IMAGES
        ordinary = colours(IMAGES, 170, 230, seed=2)
        assert flagged(client, "colours", ordinary) > 8 * ALPHA
        # within four standard deviations, those of the images and of the calibration together
        deviation = np.sqrt(2 * ALPHA * (1 - ALPHA) / IMAGES)
        assert flagged(client, "mine", ordinary) == pytest.approx(ALPHA, abs=4 * deviation)
        assert flagged(client, "mine", colours(A_REQUEST, 245, 255, seed=3)) == 1
