"""The same work in LitServe, its own way: decode_request, batches of what is waiting, encode_response.

``python -m benchmarks.service.contestants.litserve_app`` serves the plan in the environment; GET /health says ready.
"""

# No `from __future__ import annotations`: LitServe reads the annotation of decode_request as a type.
from typing import Any

import litserve
import numpy as np
from numpy.typing import NDArray

from benchmarks.service.contestants.environment import Plan

MAX_BATCH = 8
BATCH_TIMEOUT_SECONDS = 0.001  # at 0 its loop polls an empty queue without a pause


class ImageApi(litserve.LitAPI):  # type: ignore[misc]
    """One graph behind POST /predict with a file in the field ``images``."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(max_batch_size=MAX_BATCH, batch_timeout=BATCH_TIMEOUT_SECONDS)
        self._plan = plan

    def setup(self, device: str) -> None:
        """Load the graph, once a worker."""
        self._work = self._plan.work()

    def decode_request(self, request: litserve.Request) -> NDArray[np.uint8]:
        """Return the image as the graph takes it; what LitServe passes is the form."""
        return self._work.read(request["images"].file.read())

    def batch(self, inputs: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Stack what waits."""
        return np.stack(inputs)

    def predict(self, x: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the graph."""
        return self._work.run(x)

    def unbatch(self, output: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return each image's outputs."""
        return list(output)

    def encode_response(self, output: NDArray[np.float32]) -> dict[str, Any]:
        """Return the answer."""
        return {"results": [self._work.result(output)]}


def main() -> None:
    """Serve until the process is stopped."""
    plan = Plan.from_environment()
    server = litserve.LitServer(ImageApi(plan), accelerator="cpu", workers_per_device=plan.workers)
    server.run(
        host="127.0.0.1",
        port=plan.port,
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
