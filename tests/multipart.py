"""Multipart bodies made by hand, byte for byte: what an HTTP client would never send can be sent too."""

from __future__ import annotations

BOUNDARY = "xYzZy"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def part(name: str, data: bytes, filename: str | None = None) -> bytes:
    """Return one part, a file where ``filename`` is given."""
    disposition = f'Content-Disposition: form-data; name="{name}"'
    if filename is not None:
        disposition += f'; filename="{filename}"\r\nContent-Type: application/octet-stream'
    return f"--{BOUNDARY}\r\n{disposition}\r\n\r\n".encode() + data + b"\r\n"


def body(*parts: bytes) -> bytes:
    """Return a whole body."""
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
