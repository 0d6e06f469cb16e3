"""Multipart bodies as a client would send them."""

from __future__ import annotations

from collections.abc import Sequence

_BOUNDARY = "quarterturn-benchmark-3f9a1c"
CONTENT_TYPE = f"multipart/form-data; boundary={_BOUNDARY}"


def form(images: Sequence[bytes], fields: Sequence[tuple[str, str]] = ()) -> bytes:
    """Return a multipart/form-data body of CONTENT_TYPE: files in the field ``images``, and text fields."""
    texts = [_part(f'name="{name}"', value.encode()) for name, value in fields]
    kind = "\r\nContent-Type: application/octet-stream"
    files = [_part(f'name="images"; filename="image-{index}"{kind}', data) for index, data in enumerate(images)]
    return b"".join([*texts, *files, f"--{_BOUNDARY}--\r\n".encode()])


def _part(disposition: str, data: bytes) -> bytes:
    head = f"--{_BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
    return head.encode() + data + b"\r\n"
