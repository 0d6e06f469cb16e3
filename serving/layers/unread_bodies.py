"""Unread bodies: an ASGI layer that ends the connection of a request that is answered before its body is there.

A refusal often comes early: a body too large, too slow, or sent to no address of ours. Without this layer the web
server would go on taking, and throwing away, whatever such a client sends, for as long as it likes.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A client still sending when the connection is closed may lose the answer to a reset. So, once it has the answer, what
# it sends is taken for so long and so many bytes: most have sent all by then, or have read the answer and stopped.
LINGER_SECONDS = 2.0
LINGER_BYTES = 32 * 1024 * 1024


class UnreadBodies:
    """Wraps an ASGI app: an answer that begins before the request's body has ended says ``Connection: close``.

    A refusal looks first at what has arrived already: where that is all, the connection is kept. It is to be
    outside the layers that take times, so that what follows the answer counts for none.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app; after an early answer, take what the client has under way, and end the connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        await self.app(scope, exchange.receive, exchange.send)
        if exchange.must_end:
            await exchange.end()


class _Exchange:
    """One request and its answer: how far the body has come, and whether its connection ``must_end``."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.must_end = False
        self._scope = scope
        self._receive = receive
        self._send = send
        self._asked = False
        self._body_ended = False

    async def receive(self) -> Message:
        """Pass a message of the client's on."""
        self._asked = True
        message = await self._receive()
        if not message.get("more_body", False):  # the body's last piece, or the client has gone
            self._body_ended = True
        return message

    async def send(self, message: Message) -> None:
        """Pass a message of the answer on; of an early one not the end."""
        if not self._body_ended and message["type"] == "http.response.start":
            await self._begin(message)
        elif self.must_end:
            await self._send({**message, "more_body": True})
        else:
            await self._send(message)

    async def end(self) -> None:
        """Take what is under way, then end the answer: the server closes the connection."""
        if self._asked or not self._waits_to_be_asked():
            await self._linger()
        await self._send({"type": "http.response.body", "body": b""})

    async def _begin(self, start: Message) -> None:
        if self._has_body():
            if start["status"] >= 400 and (self._asked or not self._waits_to_be_asked()):
                await self._look()
            if not self._body_ended:
                self.must_end = True
                start = {**start, "headers": [*start.get("headers", []), (b"connection", b"close")]}
        await self._send(start)

    async def _look(self) -> None:
        """Take what has arrived already."""
        try:
            async with asyncio.timeout(0):
                while not self._body_ended:
                    await self.receive()
        except TimeoutError:
            pass

    async def _linger(self) -> None:
        left = LINGER_BYTES
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while left > 0 and not self._body_ended:
                    left -= len((await self.receive()).get("body", b""))
        except TimeoutError:
            pass

    def _has_body(self) -> bool:
        return any(
            name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
            for name, value in self._scope["headers"]
        )

    def _waits_to_be_asked(self) -> bool:
        """Say whether the client sends its body only when asked (``Expect: 100-continue``), as reading it does."""
        return any(name == b"expect" for name, _ in self._scope["headers"])
