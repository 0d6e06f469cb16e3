"""The ASGI layers round the service: API key, CORS, request ids, and what the log holds of them."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from serving.layers.request_log import request_id
from serving.logs import JsonFormatter, SafeFormatter, escaped, set_up_logs
from tests.graphs import solid, write_graph
from tests.pictures import encoded
from tests.serving.local_service import local_service

KEY = "a-long-secret-key"
BLACK = encoded(Image.fromarray(solid(0)))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    models = tmp_path_factory.mktemp("models")
    write_graph(models)
    with local_service(models, api_key=KEY, cors_origins="https://pages.example", access_log="true") as address:
        yield address


@pytest.mark.parametrize("headers", [{"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}])
def test_the_key_opens(url: str, headers: dict[str, str]) -> None:
    assert httpx.post(f"{url}/classify", files={"images": BLACK}, headers=headers).status_code == 200
    assert httpx.get(f"{url}/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": KEY[:-1]},
        {"X-API-Key": KEY + "x"},
        {"X-API-Key": KEY.upper()},
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        {b"X-API-Key": b"\xff\xfe"},
    ],
)
@pytest.mark.parametrize("path", ["/classify", "/anomaly_score", "/models", "/schema.json", "/metrics", "/nothing"])
def test_no_key_or_a_wrong_one_is_refused(url: str, headers: dict[str, str], path: str) -> None:
    answer = httpx.request("POST" if path in ("/classify", "/anomaly_score") else "GET", url + path, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert KEY not in answer.text


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz", "/", "/docs.json", "/demo"])
def test_health_checks_and_what_a_page_needs_to_ask_for_the_key_need_none(url: str, path: str) -> None:
    assert httpx.get(url + path).status_code == 200


def test_the_origins_of_the_setting_may_call_and_no_other(url: str) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    allowed = httpx.options(f"{url}/classify", headers={"Origin": "https://pages.example", **asked})
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://pages.example")
    other = httpx.options(f"{url}/classify", headers={"Origin": "https://other.example", **asked})
    assert other.status_code == 400
    assert "access-control-allow-origin" not in other.headers
    # A refusal can be read by the page too.
    refused = httpx.post(f"{url}/classify", headers={"Origin": "https://pages.example"})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://pages.example")


def test_without_the_setting_no_origin_may_call(tmp_path: Path) -> None:
    write_graph(tmp_path)
    with local_service(tmp_path, api_key="", cors_origins="") as url:
        answer = httpx.get(f"{url}/models", headers={"Origin": "https://pages.example"})
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_request_has_an_id_of_its_own_or_the_clients(url: str) -> None:
    ids = [httpx.get(f"{url}/livez").headers["x-request-id"] for _ in range(3)]
    assert len(set(ids)) == 3
    assert httpx.get(f"{url}/livez", headers={"X-Request-ID": "order-7"}).headers["x-request-id"] == "order-7"
    for forged in ("two words", "a" * 65, "<b>"):
        answer = httpx.get(f"{url}/livez", headers={"X-Request-ID": forged})
        assert answer.headers["x-request-id"] != forged


def test_the_access_log_has_a_line_a_request_and_clients_forge_none(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "serving.layers.request_log"):
        httpx.post(f"{url}/classify", files={"images": BLACK}, headers={"X-API-Key": KEY})
        httpx.get(f"{url}/a%0AINFO%20forged%1b[2J", headers={"X-API-Key": KEY})
    paths = ("POST /classify ", "GET /a")
    records: list[logging.LogRecord] = []
    deadline = time.monotonic() + 10
    while len(records) < 2 and time.monotonic() < deadline:  # a line is written after its answer
        time.sleep(0.01)
        records = [record for record in caplog.records if any(path in record.getMessage() for path in paths)]
    assert [record.getMessage().split(" ", 1)[1].rsplit(" ", 2)[0] for record in records] == [
        "POST /classify 200",
        "GET /a\nINFO forged\x1b[2J 404",
    ]
    for formatter in (SafeFormatter(logging.Formatter("%(levelname)s %(message)s")), JsonFormatter()):
        line = formatter.format(records[1])
        assert "\n" not in line
        assert "\x1b" not in line
        assert "forged" in line


def test_a_json_line_says_what_a_record_holds() -> None:
    token = request_id.set("abc")
    try:
        raise ValueError("a\nb")
    except ValueError:
        record = logging.LogRecord("serving.x", logging.ERROR, "f", 1, "it %s", ("failed\u2028",), sys.exc_info())
        fields = json.loads(JsonFormatter().format(record))
    finally:
        request_id.reset(token)
    assert (fields["level"], fields["logger"], fields["message"]) == ("error", "serving.x", "it failed\u2028")
    assert fields["request_id"] == "abc"
    assert fields["traceback"].endswith("ValueError: a\nb")
    assert fields["time"].endswith("+00:00")


def test_a_record_with_other_values_than_places_is_a_line_all_the_same() -> None:
    record = logging.LogRecord("x", logging.ERROR, "", 0, "two %s %s", ("one",), None)
    assert json.loads(JsonFormatter().format(record))["message"] == "two %s %s ('one',)"


def test_escapes_leave_plain_text_alone() -> None:
    assert escaped("naïve Größe 猫.png") == "naïve Größe 猫.png"
    assert escaped("a\r\nb\x1b[0m\u2028") == "a\\r\\nb\\x1b[0m\\u2028"


def test_text_logs_keep_their_form_and_escape_messages() -> None:
    logger = logging.getLogger("bentoml")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("[%(levelname)s] %(message)s"))
    logger.addHandler(handler)
    try:
        set_up_logs("text")
        set_up_logs("text")  # twice is once
        record = logging.LogRecord("bentoml", logging.INFO, "f", 1, "got %r %s", ("x", "a\nb"), None)
        assert handler.format(record) == "[INFO] got 'x' a\\nb"
    finally:
        logger.removeHandler(handler)
