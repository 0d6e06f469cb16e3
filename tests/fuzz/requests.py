"""Request fuzzing: damaged multipart requests, sent byte for byte, each answered in one of the known shapes."""

from __future__ import annotations

import errno
import http.client
import json
import socket
import time
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import urlsplit

from tests.fuzz.mutations import mutated
from tests.multipart import BOUNDARY, CONTENT_TYPE, body, part

PATHS = ("/classify", "/anomaly_score")
# Of the server under test: small, so that the limits are met too.
LIMITS = {
    "max_images": 8,
    "max_image_bytes": 50_000,
    "max_image_pixels": 100_000,
    "max_request_bytes": 300_000,
    "max_held_bytes": 1_000_000,
    "max_request_seconds": 20,
}
MAX_SECONDS = 30.0
# Of processor time, of the server and of this client together, for a request of 300 kB at most.
MAX_WORK_SECONDS = 3.0
_FIELDS = ("images", "model", "top_k", "on_error", "alpha", "views")
_TEXTS = (
    *("", "null", "[]", "{}", '""', '"', "[", "[[" * 4000, '"\\ud800"', "\0", "\r\n", " report ", "report", '"report"'),
    *("fail", "true", "false", "1", "0", "-1", "1.5", "1e-9", "0.05", "1e999", "nan", "inf", "999999999", "9" * 5000),
    *("colours", "views", '["views", "views"]', '["views", null]', '[["views"]]', "[1]", "x" * 9_999, "x" * 10_001),
    *("٣", "１", "é", "0x10", "1_0", "../../etc/passwd", "http://127.0.0.1/x.png", "%s%n", "'; DROP TABLE models"),
)
# As long as a text may be, and longer: lists of many short values, which are given many times over in one request.
_LISTS = tuple(
    json.dumps(values)[:-1][:length] + "]"
    for values in ([f"{number:x}" for number in range(3000)], ["a"] * 3000, [None] * 3000, [[]] * 3000)
    for length in (2_000, 9_990, 12_000)
)
_NAMES = (*_FIELDS, "", "Images", "images[]", "images\0", "im\u00e4ges", "x" * 3000, 'a\\"b', "__proto__", "request")
_TYPES = (
    *(CONTENT_TYPE, CONTENT_TYPE.upper(), f'multipart/form-data; boundary="{BOUNDARY}"', "multipart/form-data"),
    *("multipart/form-data; boundary=", "multipart/mixed; boundary=" + BOUNDARY, "application/json", "", ";", "=;=;="),
    *("multipart/form-data; boundary=" + "b" * 5000, CONTENT_TYPE + "; boundary=other", "text/plain", "image/png"),
    *("multipart/form-data; boundary*=utf-8''xYzZy", 'multipart/form-data; boundary="xY', "multipart/form-data;" * 200),
    "multipart/form-data; boundary=\xe9",
)


@dataclass
class Case:
    """A request as it goes over the wire; ``is_whole``: its framing is right, so that it must get an answer."""

    path: str
    content: bytes
    headers: list[tuple[str, str]] = field(default_factory=lambda: [("Content-Type", CONTENT_TYPE)])
    method: str = "POST"
    length: str | None = None
    chunked: list[int] | None = None
    is_whole: bool = True

    def raw(self) -> bytes:
        """Return the bytes of the request."""
        headers, content = list(self.headers), self.content
        if self.chunked is not None:
            headers.append(("Transfer-Encoding", "chunked"))
            content = _in_chunks(content, self.chunked)
        else:
            headers.append(("Content-Length", self.length if self.length is not None else str(len(content))))
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in headers]
        return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + content


@dataclass
class Answer:
    """An answer: ``status`` 0 where the connection ended without one."""

    status: int
    content: bytes
    headers: dict[str, str]


def damaged_request(random: Random, images: list[bytes]) -> Case:
    """Return a well-formed request after damage to its fields, its parts, its bytes, its headers or its framing."""
    parts = [_part(random, images) for _ in range(random.choice((1, 1, 2, 3, 5, 12)))]
    if random.random() < 0.05:
        parts *= random.choice((20, 150))
    if random.random() < 0.05:
        name, text = random.choice(_FIELDS[1:]), random.choice(_LISTS).encode()
        parts += [part(name, text)] * random.choice((1, 4, 30))
    if random.random() < 0.05:
        inner = body(*parts).replace(BOUNDARY.encode(), b"inner")
        parts = [b"".join(parts), _headed(b'form-data; name="images"; filename="a"', inner, b"multipart/mixed")]
    content = body(*parts)
    if random.random() < 0.4:
        content = mutated(random, content, [body(part("images", images[0], "a.png")), *images], most=3)
    case = Case(random.choice(PATHS), content)
    if random.random() < 0.3:
        _damage_headers(random, case)
    if random.random() < 0.3:
        _damage_framing(random, case)
    return case


def ask(url: str, case: Case) -> Answer:
    """Send a request, end the sending side, and read the answer. Raises TimeoutError where none comes."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=MAX_SECONDS) as connection:
        answer = http.client.HTTPResponse(connection, method=case.method)
        try:
            connection.sendall(case.raw())
            if not case.is_whole:
                connection.shutdown(socket.SHUT_WR)
        except OSError as error:  # it was answered, and closed, before all was read
            if error.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
                raise
        try:
            answer.begin()
            content = answer.read()
        except (ConnectionError, http.client.IncompleteRead):
            return Answer(0, b"", {})
        finally:
            answer.close()
        return Answer(answer.status, content, {name.lower(): value for name, value in answer.getheaders()})


def judge(url: str, case: Case) -> int:
    """Send a request and return the status of its answer. Raises AssertionError for one that is not right."""
    started, worked = time.monotonic(), time.process_time()
    answer = ask(url, case)
    assert time.monotonic() - started < MAX_SECONDS
    assert time.process_time() - worked < MAX_WORK_SECONDS
    if answer.status == 0:
        assert not case.is_whole, "no answer to a whole request"
        return 0
    if not case.is_whole and answer.content == b"Invalid HTTP request received.":
        assert answer.status == 400  # of the web server, to what is no HTTP
        return 400
    assert answer.status < 500, (answer.status, answer.content[:500])
    assert answer.headers.get("x-request-id"), answer
    if answer.status == 307:
        assert case.path.endswith("/")  # Starlette leads to the path without the slash
        return 307
    assert answer.headers.get("content-type") == "application/json", answer
    document: Any = json.loads(answer.content)
    if answer.status == 200:
        assert document["results"]
    else:
        assert answer.status in (400, 404, 405, 408, 413, 415, 422), answer
        assert document.keys() == {"error"}
        assert {"code", "message"} <= document["error"].keys() <= {"code", "message", "image", "filename"}
        assert len(answer.content) < 10_000
    return answer.status


def _part(random: Random, images: list[bytes]) -> bytes:
    kind = random.random()
    if kind < 0.6:
        name = "images" if random.random() < 0.9 else random.choice(_NAMES)
        filename = random.choice(("a.png", "", "ü.png", "x" * 400, "../a", 'a\\".png', "a\0b", "a;b=c"))
        return part(name, random.choice(images), filename)
    if kind < 0.9:
        name = random.choice(_FIELDS[1:] if random.random() < 0.85 else _NAMES)
        return part(name, random.choice(_TEXTS).encode(), random.choice((None, None, None, None, "a.txt")))
    disposition = random.choice(
        (
            b"form-data",
            b'form-data; name="images"; name="model"; filename="a"',
            b"form-data; name=images; filename=a.png",
            b"form-data; name*=utf-8''images; filename*=utf-8''a%ff.png",
            b"form-data; name*0=ima; name*1=ges; filename=a",
            b'attachment; name="images"; filename="a"',
            b'form-data; name="images"; filename="a' + b"x" * random.choice((10, 5000, 70_000)),
            b'form-data; name="images"; filename="' + random.randbytes(20) + b'"',
            b"form-data;" * 2000 + b' name="images"; filename="a"',
            b"",
        )
    )
    extra = (
        b"X-Header: " + random.choice((b"a" * 20_000, b"\xff\xfe", b"a\r\n folded")) if random.random() < 0.3 else b""
    )
    return _headed(disposition, random.choice(images), b"application/octet-stream", extra)


def _headed(disposition: bytes, content: bytes, media_type: bytes, extra: bytes = b"") -> bytes:
    lines = [b"Content-Disposition: " + disposition, b"Content-Type: " + media_type, *([extra] if extra else [])]
    return f"--{BOUNDARY}\r\n".encode() + b"\r\n".join(lines) + b"\r\n\r\n" + content + b"\r\n"


def _damage_headers(random: Random, case: Case) -> None:
    kind = random.randrange(5)
    if kind == 0:
        case.headers = [("Content-Type", random.choice(_TYPES))]
    elif kind == 1:
        case.headers = [("Content-Type", random.choice(_TYPES)) for _ in range(2)]
    elif kind == 2:
        case.headers.append(("X-Request-ID", random.choice(("ok", "a b", "\xff", "x" * 65, "a\tb", "{}"))))
    elif kind == 3:
        values = ("gzip", "identity", "br", "\xff")
        case.headers.append((random.choice(("Content-Encoding", "Accept", "Accept-Encoding")), random.choice(values)))
    else:
        case.headers += [(f"X-{number}", "a" * 500) for number in range(random.choice((10, 60)))]


def _damage_framing(random: Random, case: Case) -> None:
    kind = random.randrange(6)
    if kind == 0:
        case.chunked = [random.choice((1, 3, 100, 5000)) for _ in range(8)]
    elif kind == 1:
        case.length, case.is_whole = str(len(case.content) + random.choice((1, 10, 100_000, 2**40))), False
    elif kind == 2:
        case.length, case.is_whole = str(random.randint(0, len(case.content))), False
    elif kind == 3:
        case.length, case.is_whole = random.choice(("-1", "abc", "", "9" * 30, "1, 2", "0x10", "+5", "\xb2")), False
    elif kind == 4:
        case.method, case.is_whole = random.choice(("PUT", "GET", "DELETE", "PATCH", "post", "BREW")), False
    else:
        case.path += random.choice(("?alpha=0.5", "?", "/", "%00", "%ff", "//", ";x", "?" + "a" * 5000))


def _in_chunks(content: bytes, sizes: list[int]) -> bytes:
    pieces, at, number = [], 0, 0
    while at < len(content):
        size = sizes[number % len(sizes)] if number < 2000 else len(content)
        piece = content[at : at + size]
        pieces.append(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        at, number = at + size, number + 1
    return b"".join(pieces) + b"0\r\n\r\n"
