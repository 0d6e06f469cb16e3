"""The service in this process, behind a real socket: uvicorn in a thread, with BentoML's ASGI app."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn


@contextmanager
def local_service(models: Path, **settings: object) -> Iterator[str]:
    """Serve a models folder with settings (``max_images=3``); yields the address once the service is ready."""
    from serving.service import Quarterturn

    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as listening:
        patch.setenv("QUARTERTURN_MODELS", str(models))
        for name, value in settings.items():
            patch.setenv(f"QUARTERTURN_{name.upper()}", str(value))
        server = uvicorn.Server(uvicorn.Config(Quarterturn.to_asgi(), log_config=None))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the service did not start"
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
