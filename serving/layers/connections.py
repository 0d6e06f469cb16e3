"""Connections: the web server's HTTP protocol, with bounds on what it would take or wait for without end.

uvicorn gathers the head of a request, and the trailers of a body sent in chunks, as long as they come, and requests
behind one that has no answer yet; it waits for ever for a head, and for a client to read its answer. The ASGI layers
see a request when its head is complete and it is its turn, so these bounds lie below them.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from serving.errors import ApiError
from serving.layers.joined_writes import JoinedWrites
from serving.layers.queued_requests import MAX_QUEUED, HeldReading
from serving.layers.unread_answers import UnreadAnswers
from serving.layers.unread_bodies import LINGER_BYTES, LINGER_SECONDS
from serving.metrics import metrics
from serving.requests.error_answer import error_response

# Address and headers of a request; or what comes in a body sent in chunks that is not the body.
HEAD_BYTES = 64 * 1024
# Every connection is looked at so often, which costs requests nothing. It is closed where it has been waiting for the
# rest of a head at so many looks in a row, 20 seconds, and where its client has taken nothing of an answer, 60 seconds.
LOOK_SECONDS = 5.0
HEAD_LOOKS = 4
UNREAD_LOOKS = 12
# What the system takes of an answer for a client that does not read (Linux: twice that), so that the rest is counted
# here; by itself it takes some megabytes.
SENDING_BYTES = 128 * 1024

_unread = UnreadAnswers()


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's protocol, which answers a head above HEAD_BYTES with 431 and ends connections that stand still.

    Where more than MAX_QUEUED requests come behind one, it ends with their answers. It ends, too, at its client's wish
    for a WebSocket: such a protocol would take over the connection, and with it the bounds.

    It counts what a read of the socket brings, so that a head which begins in the read where a request ended may be
    larger by a read. Where an earlier request is still being answered, the connection is closed without the 431, which
    the client would take for that answer. Answers go through ``joined_writes``. It stays open for
    ``keep_alive_seconds`` without a request, in place of uvicorn's setting.
    """

    def __init__(self, *args: Any, keep_alive_seconds: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if keep_alive_seconds is not None:
            self.timeout_keep_alive = keep_alive_seconds  # type: ignore[assignment]  # whole ones are not needed
        self._loose_bytes = 0  # read since the parser last had a whole head or a piece of a body
        self._running: RequestResponseCycle | None = None  # ``cycle`` is the newest; those between are in ``pipeline``
        self._is_too_large = False
        self._is_queue_full = False
        self._refused = False
        self._linger_bytes = LINGER_BYTES
        self._head_looks = 0
        self._unread_looks = 0
        self._unread_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look."""
        super().connection_made(transport)
        self.flow = HeldReading(transport, self.pipeline)
        self._answers = JoinedWrites(transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENDING_BYTES)
        self._timer = self.loop.call_later(LOOK_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        _unread.remove(self.transport)
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:  # uvicorn tells the newest alone
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        _unread.add(self.transport)

    def resume_writing(self) -> None:
        """Go on."""
        _unread.remove(self.transport)
        super().resume_writing()

    def shutdown(self) -> None:
        """End after the answer under way; what waits behind it is dropped."""
        if self.pipeline and self._running is not None:
            self.pipeline.clear()
            self._running.keep_alive = False
        else:
            super().shutdown()

    def handle_websocket_upgrade(self) -> None:
        """Refuse it and end; where an answer is due, which the refusal would be taken for, end."""
        if not self._is_answering():
            headers = b"content-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[403] + headers)
        self._refused = True
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Parse what has come, or throw it away after a refusal."""
        if self._refused:
            self._linger_bytes -= len(data)
            if self._linger_bytes < 0:
                self.transport.close()
            return
        self._loose_bytes += len(data)
        super().data_received(data)
        if self._loose_bytes > HEAD_BYTES:
            self._refuse()

    def on_headers_complete(self) -> None:
        """Begin a request. Raises ValueError, on which the parser gives up, for a large head and a long queue."""
        if self._loose_bytes > HEAD_BYTES and self._head_bytes() > HEAD_BYTES:
            self._is_too_large = True
            raise ValueError("the head is too large")
        if len(self.pipeline) >= MAX_QUEUED:
            self._is_queue_full = True
            raise ValueError("too many requests wait")
        self._loose_bytes = self._head_looks = 0
        super().on_headers_complete()
        if self.cycle is not None:  # else the first wishes for a WebSocket
            self.cycle.transport = self._answers  # type: ignore[assignment]
        if not self.pipeline:
            self._running = self.cycle

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._loose_bytes = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """End an answer, and begin the next request where there is one."""
        self._answers.end()
        if self.pipeline:
            self._running = self.pipeline[-1][0]
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed."""
        if self._is_queue_full:
            self._refused = True
            self.cycle.keep_alive = False  # the last that waits
        elif self._is_too_large:
            self._refuse()
        else:
            super().send_400_response(msg)

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _refuse(self) -> None:
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        cycle = self.cycle
        if cycle and not cycle.response_complete:
            if cycle.response_started or self.pipeline or not cycle.more_body:
                self.transport.close()
                return
            cycle.disconnected = True  # the trailers are its own: what it answers from now on is dropped
            cycle.message_event.set()
        error = ApiError(431, "head_too_large", f"the headers of a request take {HEAD_BYTES} bytes at most")
        response = error_response(error)
        headers = [*self.server_state.default_headers, *response.raw_headers, (b"connection", b"close")]
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        self.transport.write(STATUS_LINE[error.status] + lines + b"\r\n" + bytes(response.body))
        metrics().requests.labels("other", str(error.status)).inc()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _look(self) -> None:
        self._timer = self.loop.call_later(LOOK_SECONDS, self._look)
        self._head_looks = self._head_looks + 1 if self._waits_for_head() else 0
        if self._head_looks >= HEAD_LOOKS:
            self.transport.close()
        before, self._unread_bytes = self._unread_bytes, self.transport.get_write_buffer_size()
        self._unread_looks = self._unread_looks + 1 if 0 < before <= self._unread_bytes else 0
        if self._unread_looks >= UNREAD_LOOKS:
            self.transport.abort()

    def _waits_for_head(self) -> bool:
        """Say whether a head is due: of a new connection, or begun after an answer (before, uvicorn's timer runs)."""
        return not (self._is_answering() or self.timeout_keep_alive_task)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete
