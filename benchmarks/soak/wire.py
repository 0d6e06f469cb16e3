"""HTTP/1.1 by hand over asyncio: requests sent drop by drop, cut off, or larger than the server will read."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from benchmarks.multipart import CONTENT_TYPE

_HOST = "127.0.0.1"


@dataclass(frozen=True)
class Answer:
    """What a server answered; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def post(
    port: int, path: str, pieces: Iterable[bytes], *, length: int | None, pause: float = 0.0
) -> Answer | None:
    """Send a multipart body piece by piece, ``pause`` seconds apart, until it is sent or the server has answered.

    ``length``: the Content-Length; None sends the body in chunks and announces none. Returns None where the server
    closes the connection without an answer, as it may while more arrives than it will read.
    """
    reader, writer = await asyncio.open_connection(_HOST, port)
    answer = asyncio.ensure_future(_read_answer(reader))
    try:
        with suppress(ConnectionError):  # the answer, if there is one, says why
            writer.write(_head(path, length))
            for piece in pieces:
                if answer.done():
                    break
                writer.write(piece if length is not None else b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
                if pause:
                    await asyncio.wait([answer], timeout=pause)
            if length is None and not answer.done():
                writer.write(b"0\r\n\r\n")
                await writer.drain()
        return await answer
    finally:
        answer.cancel()
        writer.transport.abort()


async def break_off(port: int, path: str, body: bytes, sent: int, linger: float, *, reset: bool) -> None:
    """Announce a body, send ``sent`` bytes of it, wait ``linger`` seconds and close the connection without a word.

    ``reset``: with a TCP reset, as when a machine vanishes; else as a client that has been stopped. All of the body may
    be sent, so that the server works for nobody.
    """
    _, writer = await asyncio.open_connection(_HOST, port)
    try:
        with suppress(ConnectionError):
            writer.write(_head(path, len(body)) + body[:sent])
            await writer.drain()
        await asyncio.sleep(linger)
        if reset:
            connection: socket.socket = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    finally:
        writer.transport.abort()


def _head(path: str, length: int | None) -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"POST {path} HTTP/1.1", "Host: soak", f"Content-Type: {CONTENT_TYPE}", size, "Connection: close"]
    return "\r\n".join([*lines, "", ""]).encode()


async def _read_answer(reader: asyncio.StreamReader) -> Answer | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return Answer(int(first.split()[1]), headers, body)
