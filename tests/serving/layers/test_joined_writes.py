from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest

from serving.layers import connections
from serving.layers.joined_writes import JoinedWrites
from tests.graphs import write_graph
from tests.multipart import CONTENT_TYPE, body, part
from tests.pictures import encoded, picture
from tests.serving.local_service import local_service

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"


class Transport:
    """Remembers what is written, and whether it is closed."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
def answers(transport: Transport) -> JoinedWrites:
    return JoinedWrites(transport)  # type: ignore[arg-type]


def test_the_head_goes_with_the_first_piece_of_each_answer(answers: JoinedWrites, transport: Transport) -> None:
    for _ in range(2):
        answers.write(HEAD)
        answers.write(b"ab")
        answers.write(b"cd")
        answers.end()
    assert transport.written == [HEAD + b"ab", b"cd"] * 2


def test_an_answer_without_a_body_ends_with_its_head(answers: JoinedWrites, transport: Transport) -> None:
    for _ in range(2):
        answers.write(HEAD)
        answers.end()
    assert transport.written == [HEAD] * 2


def test_a_client_that_waits_to_be_asked_is_asked_at_once(answers: JoinedWrites, transport: Transport) -> None:
    asks = b"HTTP/1.1 100 Continue\r\n\r\n"
    answers.write(asks)
    assert transport.written == [asks]
    answers.write(HEAD)
    answers.write(b"abcd")
    assert transport.written == [asks, HEAD + b"abcd"]


def test_an_answer_that_breaks_off_has_its_head(answers: JoinedWrites, transport: Transport) -> None:
    answers.write(HEAD)
    assert not answers.is_closing()
    answers.close()
    assert answers.is_closing()
    assert transport.written == [HEAD]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[bytes]]]:
    """Return the address of a running service, and what its connections write from now on."""
    models = tmp_path_factory.mktemp("models")
    write_graph(models)
    pieces: list[bytes] = []

    class Recorded(JoinedWrites):
        def __init__(self, transport: connections.asyncio.Transport) -> None:
            recording = Transport()
            recording.write = lambda data: (pieces.append(data), transport.write(data))  # type: ignore[assignment,method-assign]
            recording.close = transport.close  # type: ignore[method-assign]
            super().__init__(recording)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "JoinedWrites", Recorded)
        with local_service(models) as url:
            yield url, pieces


def test_answers_of_a_server_are_one_piece_each(written: tuple[str, list[bytes]]) -> None:
    url, pieces = written
    host = url.removeprefix("http://")
    form = body(part("images", encoded(picture(), "PNG"), filename="a.png"))
    requests = [
        ("POST", "/classify", form, {"Content-Type": CONTENT_TYPE}),
        ("HEAD", "/models", b"", {}),
        ("GET", "/models", b"", {}),
        ("POST", "/classify", b"", {"Content-Type": "text/plain"}),
    ]
    connection = http.client.HTTPConnection(host, timeout=30)
    pieces.clear()
    for count, (method, path, sent, headers) in enumerate(requests, 1):
        connection.request(method, path, sent, headers)
        answer = connection.getresponse()
        content = answer.read()
        assert len(pieces) == count
        assert pieces[-1].endswith(b"\r\n\r\n" + content)
        assert (method == "HEAD") == (not content)
    connection.close()
