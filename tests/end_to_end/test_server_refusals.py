"""A server process over tiny graphs, driven over HTTP: what it refuses, how, and that the next request is served."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.tiny_server import BLACK, ENDPOINTS, HORSE, LIMITS, NOISE, WHITE, Server, error_of, png
from tests.multipart import CONTENT_TYPE, body, part
from tests.pictures import encoded, raw_png

pytestmark = pytest.mark.slow

BAD_IMAGES = {
    "text": (b"hello", 415, "not_an_image"),
    "empty": (b"", 415, "not_an_image"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "not_an_image"),
    "pdf": (b"%PDF-1.7 and so on", 415, "not_an_image"),
    "truncated png": (png(NOISE)[:5000], 422, "undecodable_image"),
    "truncated jpeg": (encoded(Image.fromarray(NOISE), "JPEG")[:1000], 422, "undecodable_image"),
    "signature alone": (b"\x89PNG\r\n\x1a\n", 422, "undecodable_image"),
    "too many pixels": (png(np.zeros((1001, 1000, 3), np.uint8)), 413, "image_too_large"),
    "bomb": (raw_png(60_000, 60_000, 8, 2, bytes(100)), 413, "image_too_large"),
    "too many bytes": (bytes(LIMITS["image_bytes"] + 1), 413, "image_too_large"),
}


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_a_bad_image_refuses_the_request(server: Server, path: str, kind: str) -> None:
    data, status, code = BAD_IMAGES[kind]
    error = error_of(server.post(path, BLACK, data, b"bad too"), status, code)
    assert (error["image"], error["filename"]) == (1, "1.png")


@pytest.mark.parametrize("path", ENDPOINTS)
def test_bad_images_are_reported_beside_good_ones(server: Server, path: str) -> None:
    bad = [(data, code) for data, _, code in BAD_IMAGES.values()]
    first, *reported, last = server.results(path, BLACK, *(data for data, _ in bad), WHITE, on_error="report")
    assert [first, last] == server.results(path, BLACK, WHITE)
    for index, ((_, code), result) in enumerate(zip(bad, reported, strict=True), start=1):
        assert result.keys() == {"error"}
        assert (result["error"]["code"], result["error"]["image"]) == (code, index)


REFUSED: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "unknown field": ("/classify", {"colour": "red"}, 400, "unknown_field"),
    "field of the other endpoint": ("/classify", {"alpha": "0.1"}, 400, "unknown_field"),
    "top_k": ("/classify", {"top_k": "many"}, 400, "bad_field"),
    "top_k twice": ("/classify", {"top_k": ["1", "2"]}, 400, "bad_field"),
    "on_error": ("/classify", {"on_error": "shrug"}, 400, "bad_field"),
    "two models to classify": ("/classify", {"model": ["colours", "second"]}, 400, "bad_field"),
    "one-class model to classify": ("/classify", {"model": "views"}, 400, "wrong_kind"),
    "alpha": ("/anomaly_score", {"alpha": "0"}, 400, "bad_field"),
    "alpha nan": ("/anomaly_score", {"alpha": "nan"}, 400, "bad_field"),
    "views": ("/anomaly_score", {"views": "1"}, 400, "bad_field"),
    "half a surrogate": ("/anomaly_score", {"alpha": '"\\ud800"'}, 400, "bad_field"),
    "two classifiers": ("/anomaly_score", {"model": ["colours", "second"]}, 400, "two_classifiers"),
    "unknown model": ("/anomaly_score", {"model": "colors"}, 404, "unknown_model"),
    "unknown model to classify": ("/classify", {"model": '"\\ud800"'}, 404, "unknown_model"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_bad_fields_are_refused(server: Server, kind: str) -> None:
    path, fields, status, code = REFUSED[kind]
    error = error_of(server.post(path, BLACK, **fields), status, code)
    if code in ("bad_field", "unknown_field"):
        assert repr(next(iter(fields))) in error["message"]


@pytest.mark.parametrize("path", ENDPOINTS)
def test_requests_without_images_or_with_too_many_are_refused(server: Server, path: str) -> None:
    nothing = server.client.post(path, data={"on_error": "fail"}, files={})
    error_of(nothing, 415, "not_multipart")
    text = body(part("on_error", b"fail"))
    error_of(server.client.post(path, content=text, headers={"content-type": CONTENT_TYPE}), 400, "no_images")
    address = body(part("images", b"http://localhost/secret.png"))
    error_of(server.client.post(path, content=address, headers={"content-type": CONTENT_TYPE}), 400, "bad_field")
    error_of(server.post(path, *[BLACK] * (LIMITS["images"] + 1)), 413, "too_many_images")
    error_of(server.post(path, *[bytes(LIMITS["image_bytes"])] * 4), 413, "request_too_large")
    error_of(server.client.post(path, json={"images": ["x"]}), 415, "not_multipart")
    error_of(server.client.post(path, content=HORSE, headers={"content-type": "image/png"}), 415, "not_multipart")


def test_malformed_bodies_do_not_disturb_the_next_request(server: Server) -> None:
    whole = body(part("images", HORSE, "horse.png"))
    malformed = [
        b"",
        b"no boundary",
        whole[:-4],
        whole.replace(b"Content-Disposition", b"Content-Position"),
        whole.replace(b"\r\n", b"\n"),
        b"--xYzZy\r\n" + b"a" * 100_000,
    ]
    expected = server.results("/classify", HORSE)
    for content in malformed:
        for path in ENDPOINTS:
            answer = server.client.post(path, content=content, headers={"content-type": CONTENT_TYPE})
            assert answer.status_code == 400, content[:100]
            error_of(answer, 400, "bad_multipart" if content else "no_images")
        assert server.results("/classify", HORSE) == expected
    for content_type in (b"multipart/form-data; boundary=\xe9", b"\xff\xfe", b"multipart/form-data", b""):
        answer = server.client.post("/classify", content=whole, headers=[(b"content-type", content_type)])
        assert answer.status_code in (400, 415)
        error_of(answer, answer.status_code, answer.json()["error"]["code"])
    assert server.results("/classify", HORSE) == expected


def begun_upload(server: Server, size: int) -> socket.socket:
    """Send all but the end of an upload of so many bytes, and keep the connection open."""
    address = httpx.URL(server.url)
    connection = socket.create_connection((address.host, address.port or 80))
    whole = body(part("images", b"a" * size, "horse.png"))
    head = f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(whole)}\r\n\r\n"
    connection.sendall(head.encode() + whole[:-10])
    return connection


def held_bytes(server: Server) -> float:
    lines = server.client.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("quarterturn_held_bytes"))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_half_sent_uploads_take_no_place(server: Server) -> None:
    with ExitStack() as uploads:
        for _ in range(3 * LIMITS["in_flight"]):
            uploads.enter_context(begun_upload(server, 1000))
        assert server.post("/classify", HORSE).status_code == 200


def test_a_server_holds_so_many_bytes_and_aborted_uploads_free_it(server: Server) -> None:
    large = png(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8))
    assert 150_000 < len(large) < LIMITS["image_bytes"]
    for _ in range(2):
        with ExitStack() as uploads:
            for _ in range(3):  # 2.85 MB, and 3 may be held
                uploads.enter_context(begun_upload(server, 950_000))
            wait_until(lambda: held_bytes(server) > 2_840_000)
            refused = server.post("/classify", large)
            error_of(refused, 503, "busy")
            assert int(refused.headers["retry-after"]) >= 1
            assert server.post("/classify", HORSE).status_code == 200  # for a small one there is room
            assert server.client.get("/livez").status_code == server.client.get("/readyz").status_code == 200
        wait_until(lambda: held_bytes(server) == 0)
        assert server.post("/classify", large).status_code == 200
