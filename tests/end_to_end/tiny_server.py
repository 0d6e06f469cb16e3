"""A real server process over tiny graphs, what tests send it, and the one shape of what it refuses with."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serving.graphs.graph import Graph, load_graph
from tests.end_to_end.ports import free_port
from tests.end_to_end.servers import running
from tests.graphs import solid, write_graph
from tests.pictures import encoded

EXAMPLES = Path(__file__).parents[2] / "examples"
HORSE = (EXAMPLES / "horse.png").read_bytes()
ENDPOINTS = ("/classify", "/anomaly_score")
LIMITS = {"images": 12, "image_bytes": 300_000, "image_pixels": 1_000_000, "request_bytes": 1_000_000, "in_flight": 2}
HELD_BYTES = 3_000_000


@dataclass
class Server:
    """A running server: its address, a client for it, where its output goes, and its graphs by name."""

    url: str
    client: httpx.Client
    log: Path
    graphs: dict[str, Graph]

    def post(self, path: str, *images: bytes, **fields: Any) -> httpx.Response:
        files = [("images", (f"{index}.png", image)) for index, image in enumerate(images)]
        return self.client.post(path, files=files, data=fields)

    def results(self, path: str, *images: bytes, **fields: Any) -> list[Any]:
        answer = self.post(path, *images, **fields)
        assert answer.status_code == 200, answer.text
        results: list[Any] = answer.json()["results"]
        return results


@contextmanager
def tiny_server(folder: Path) -> Iterator[Server]:
    """Serve four tiny graphs, two of them classifiers, from ``folder`` with narrow LIMITS."""
    write_graph(folder / "models", "colours")
    write_graph(folder / "models", "views", formula="transformation")
    write_graph(folder / "models", "cat-only", formula="transformation", in_class="cat", size=64, shorter_side=72)
    write_graph(folder / "models", "second", formula="msp")
    environment = {
        **os.environ,
        **{f"QUARTERTURN_MAX_{name.upper()}": str(value) for name, value in LIMITS.items()},
        "QUARTERTURN_MAX_HELD_BYTES": str(HELD_BYTES),
        "CUDA_VISIBLE_DEVICES": "",
    }
    port = free_port()
    command = [sys.executable, "-m", "serving.cli", "serve", "--port", str(port), "--models", str(folder / "models")]
    graphs = {path.parent.name: load_graph(path) for path in (folder / "models").glob("*/model.onnx")}
    url = f"http://localhost:{port}"
    with ExitStack() as stack:
        output = stack.enter_context((folder / "log").open("w"))
        options: dict[str, Any] = {"env": environment, "stdout": output, "stderr": subprocess.STDOUT}
        stack.enter_context(running([*command, "--default-classifier", "colours"], port, **options))
        ready = (folder / "log").read_text()
        client = stack.enter_context(httpx.Client(base_url=url, timeout=60))
        yield Server(url, client, folder / "log", graphs)
    assert "Service quarterturn initialized" in ready, "ready before the service was made"
    assert "Traceback" not in (folder / "log").read_text()


def png(pixels: NDArray[np.uint8]) -> bytes:
    return encoded(Image.fromarray(pixels))


def error_of(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Return the error of a refusal, which has the one shape."""
    assert answer.headers["content-type"] == "application/json"
    assert "Traceback" not in answer.text
    content = answer.json()
    assert content.keys() == {"error"}
    error: dict[str, Any] = content["error"]
    assert {"code", "message"} <= error.keys() <= {"code", "message", "image", "filename"}
    assert (answer.status_code, error["code"]) == (status, code), error
    return error


BLACK, WHITE = png(solid(0)), png(solid(255))
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
