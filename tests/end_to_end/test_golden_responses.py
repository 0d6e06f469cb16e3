"""One response of each endpoint, by the shipped models, as it was when it was last looked at.

``python -m tests.end_to_end.test_golden_responses`` writes them anew: after a change of models or of the API, and then
read the difference.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.ports import free_port
from tests.end_to_end.servers import running
from tests.likeness import assert_like

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "responses"
IMAGES = [ROOT / "examples" / "horse.png", ROOT / "examples" / "seven.png"]
REQUESTS = {
    "classify": ("/classify", {"top_k": "3"}),
    "anomaly_score": ("/anomaly_score", {"model": ["cifar10-rotations", "cifar10-horse-transformations"]}),
    "models": ("/models", None),
}


def responses() -> dict[str, Any]:
    """Ask a server process with the shipped models everything in REQUESTS."""
    port = free_port()
    command = [sys.executable, "-m", "serving.cli", "serve", "--port", str(port)]
    answers = {}
    with running(command, port), httpx.Client(base_url=f"http://localhost:{port}", timeout=60) as client:
        for name, (address, fields) in REQUESTS.items():
            if fields is None:
                answer = client.get(address)
            else:
                files = [("images", (path.name, path.read_bytes())) for path in IMAGES]
                answer = client.post(address, files=files, data=fields)
            assert answer.status_code == 200, answer.text
            answers[name] = answer.json()
    return answers


@pytest.mark.slow
def test_responses_are_the_golden_ones() -> None:
    for name, answer in responses().items():
        assert_like(answer, json.loads((GOLDEN / f"{name}.json").read_text()), name)


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, answer in responses().items():
        (GOLDEN / f"{name}.json").write_text(json.dumps(answer, indent=1) + "\n")
