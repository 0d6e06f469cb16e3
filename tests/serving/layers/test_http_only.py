from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from starlette.types import Message, Receive, Scope, Send

from serving.layers.http_only import HttpOnly
from tests.graphs import write_graph


async def _nothing() -> Message:
    return {"type": "websocket.connect"}


def test_a_websocket_is_closed_unaccepted_and_all_else_passes() -> None:
    reached: list[str] = []
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["type"])

    async def send(message: Message) -> None:
        sent.append(message)

    for kind in ("http", "websocket", "lifespan"):
        asyncio.run(HttpOnly(app)({"type": kind}, _nothing, send))
    assert reached == ["http", "lifespan"]
    assert [(message["type"], message["code"]) for message in sent] == [("websocket.close", 1008)]


def test_the_service_refuses_websockets_before_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.service import Quarterturn

    write_graph(tmp_path)
    monkeypatch.setenv("QUARTERTURN_MODELS", str(tmp_path))
    assert isinstance(Quarterturn.to_asgi(), HttpOnly)
