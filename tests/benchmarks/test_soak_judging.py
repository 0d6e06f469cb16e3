"""What a soak takes for right: answers as the graphs give them, refusals of the one shape; and how it sends."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.multipart import CONTENT_TYPE
from benchmarks.soak.expected import Expectation, Graphs
from benchmarks.soak.mixed import judge
from benchmarks.soak.scripts import Script, bad_scripts, bomb, good_scripts, huge_scripts, large_scripts, pieces
from benchmarks.soak.wire import Answer, break_off, post
from serving.images.image_file import ImageError, decode_image
from tests.graphs import write_graph
from tests.serving.local_service import local_service

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("soak") / "models"
    write_graph(folder, "colours")
    write_graph(folder, "views", formula="transformation")
    return folder


def answer(status: int, content: object) -> Answer:
    return Answer(status, {}, json.dumps(content).encode())


def test_every_script_is_judged_right_against_the_service_and_wrong_where_it_is(models: Path) -> None:
    graphs = Graphs(models)
    scripts = [*good_scripts(graphs), *large_scripts(graphs), *bad_scripts(), *huge_scripts()]
    wrong: dict[str, object] = {}
    with local_service(models) as url, httpx.Client(base_url=url, timeout=60) as client:
        for script in scripts:
            headers = {"Content-Type": script.content_type} if script.content_type else {}
            given = client.post(script.path, content=script.body, headers=headers)
            answered = Answer(given.status_code, given.headers, given.content)
            if problem := judge(script, answered):
                wrong[script.name] = problem
            spoilt = Answer(500, {}, given.content)
            assert "status 500" in str(judge(script, spoilt)), script.name
            if script.expected is not None:
                _assert_wrong_numbers_are_seen(script.expected, json.loads(given.content))
    assert wrong == {}


def _assert_wrong_numbers_are_seen(expected: Expectation, content: dict[str, Any]) -> None:
    for index, result in enumerate(content["results"]):
        if "error" in result:
            continue
        spoilt = copy.deepcopy(content)
        if "probability" in result:
            spoilt["results"][index]["probability"] += 2e-4
        else:
            score = spoilt["results"][index]["transformation"][0]
            score["score"] += 2e-4 * max(1, abs(score["score"]))
        assert str(expected.problem(spoilt)).startswith(f"image {index}: ")
    assert expected.problem({**content, "results": content["results"][1:]}) is not None


def test_an_error_must_have_its_shape_and_its_status() -> None:
    script = Script("text", "/classify", b"", statuses=(415,))
    error = {"error": {"code": "not_an_image", "message": "no"}}
    assert judge(script, answer(415, error)) is None
    assert "status 400" in str(judge(script, answer(400, error)))
    assert "another shape" in str(judge(script, answer(415, {"detail": "no"})))
    assert "no JSON" in str(judge(script, Answer(415, {}, b"Internal Server Error")))
    assert "without an answer" in str(judge(script, None))
    assert judge(Script("too large", "/classify", b"", statuses=(413,)), None) is None


def test_the_bomb_is_refused_by_its_header() -> None:
    with pytest.raises(ImageError, match="60000 x 60000 pixels") as caught:
        decode_image(bomb(60_000, 60_000))
    assert caught.value.status == 413
    assert decode_image(bomb(10, 10)).size == (10, 10)


def test_pieces_are_the_whole() -> None:
    data = bytes(range(256)) * 3
    assert b"".join(pieces(data, 15)) == data
    assert len(pieces(data, 15)) == 16
    assert b"".join(pieces(b"ab", 15)) == b"ab"


@asynccontextmanager
async def _listening(talk: Talk) -> AsyncIterator[int]:
    """Listen for one connection; the block's end waits until it is over. Yields the port."""
    over = asyncio.Event()

    async def answer_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            over.set()

    async with await asyncio.start_server(answer_one, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        await over.wait()


def test_drops_arrive_one_by_one_and_whole() -> None:
    async def run() -> None:
        arrived: list[bytes] = []

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            arrived.append(await reader.readuntil(b"\r\n\r\n"))
            while sum(map(len, arrived[1:])) < 30:
                arrived.append(await reader.read(1000))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Y: z\r\n\r\nhi")
            await writer.drain()

        async with _listening(talk) as port:
            given = await post(port, "/classify", pieces(b"a" * 30, 3), length=30, pause=0.05)
        assert given == Answer(200, {"content-length": "2", "x-y": "z"}, b"hi")
        head = arrived[0].decode()
        assert head.startswith("POST /classify HTTP/1.1\r\n")
        assert "Content-Length: 30\r\n" in head
        assert f"Content-Type: {CONTENT_TYPE}\r\n" in head
        assert arrived[1:] == [b"a" * 10] * 3

    asyncio.run(run())


def test_a_body_in_chunks_ends_where_the_server_has_answered() -> None:
    async def run() -> None:
        received = 0

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal received
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"Transfer-Encoding: chunked" in head
            assert await reader.readline() == b"100000\r\n"
            received += len(await reader.readexactly(1 << 20))
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            while data := await reader.read(1 << 20):
                received += len(data)

        async with _listening(talk) as port:
            given = await post(port, "/", [bytes(1 << 20)] * 300, length=None, pause=0.001)
        assert given is not None
        assert given.status == 413
        assert received < 100 << 20

    asyncio.run(run())


@pytest.mark.parametrize("reset", [False, True])
def test_a_request_is_broken_off_where_told(reset: bool) -> None:
    async def run() -> None:
        seen: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            data = await reader.readexactly(40)
            try:
                assert await reader.read() == b""
                seen.set_result(data + b" closed")
            except ConnectionResetError:
                seen.set_result(data + b" reset")

        async with _listening(talk) as port:
            await break_off(port, "/", b"b" * 100, sent=40, linger=0.05, reset=reset)
            assert await seen == b"b" * 40 + (b" reset" if reset else b" closed")

    asyncio.run(run())


def test_a_server_that_closes_gives_no_answer() -> None:
    async def run() -> None:
        async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        async with _listening(talk) as port:
            assert await post(port, "/", [b"x" * 1000] * 10, length=10_000) is None

    asyncio.run(run())
