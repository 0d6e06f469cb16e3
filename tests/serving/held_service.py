"""A service that is full until it is let go: a request that is not sent to its end holds all the bytes it may hold."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.multipart import CONTENT_TYPE, body, part
from tests.serving.local_service import local_service

HELD_BYTES = 20_000


class Hold:
    """A request of which the last byte has not been sent; the service reads it and waits."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        # Room is left for what the server takes it for, an image of 32 x 32 pixels, and for no request beside it.
        content = body(part("images", b"x" * (HELD_BYTES - 4_000), "held.png"))
        head = [
            "POST /classify HTTP/1.1",
            f"Host: {address.netloc}",
            f"Content-Type: {CONTENT_TYPE}",
            f"Content-Length: {len(content)}",
            "Expect: 100-continue",
        ]
        self._last = content[-1:]
        self._socket = socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=30)
        self._socket.sendall("\r\n".join([*head, "", ""]).encode())
        assert self._socket.recv(1000).startswith(b"HTTP/1.1 100 ")
        self._socket.sendall(content[:-1])

    def let_go(self) -> None:
        """Send the last byte, and wait for the answer: the service holds nothing then."""
        self._socket.sendall(self._last)
        assert self._socket.recv(1000).startswith(b"HTTP/1.1 415 ")

    def close(self) -> None:
        """Leave the request, finished or not."""
        self._socket.close()


@contextmanager
def held_service(models: Path, **settings: object) -> Iterator[tuple[str, Hold]]:
    """Serve a models folder; yields the address and what makes the service full for all but the smallest requests."""
    with local_service(models, max_held_bytes=HELD_BYTES, **settings) as url:
        hold = Hold(url)
        try:
            yield url, hold
        finally:
            hold.close()
