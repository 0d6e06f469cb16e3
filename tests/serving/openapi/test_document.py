"""The OpenAPI document against the live server: schemathesis asks what it describes, and what it does not."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from pydantic import BaseModel

from serving.openapi.examples import CLASSIFIED, MODELS, SCORED
from serving.openapi.forms_and_answers import AnomalyAnswer, ClassifyAnswer, ErrorAnswer, ModelsAnswer
from serving.openapi.refusals import REFUSALS
from tests.graphs import solid, write_graph
from tests.serving.local_service import local_service

# Not among them: whether valid data is accepted (no schema says that bytes are an image), and whether invalid data is
# refused (in a form, one value and a list of one, or a number and its text, are the same bytes).
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    models = tmp_path_factory.mktemp("models")
    write_graph(models, "colours")
    write_graph(models, "views", formula="transformation")
    with local_service(models, max_images=4, max_image_bytes=50_000, max_request_bytes=100_000) as address:
        yield address


@pytest.fixture(scope="module")
def document(url: str) -> dict[str, Any]:
    content: dict[str, Any] = httpx.get(f"{url}/docs.json").json()
    return content


def test_the_server_keeps_to_its_document(url: str, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/docs.json", "--no-color"]
    # A process can register the metrics of BentoML once only, so that this server is without /metrics.
    command += ["--checks", ",".join(CHECKS), "--exclude-path", "/metrics"]
    command += ["--seed", "1", "--generation-deterministic", "--max-examples", "25"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    count = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert count, done.stdout
    assert int(count[1]) == int(count[2]) > 100


@pytest.mark.parametrize(
    ("header", "status", "code"),
    [(b"Content-Type: \xff", 400, "bad_header"), (b"X-Long: " + b"x" * 70_000, 431, "head_too_large")],
    ids=["bad_header", "head_too_large"],
)
def test_what_any_address_may_answer_is_described_at_each(
    url: str, document: dict[str, Any], header: bytes, status: int, code: str
) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            described = _resolved(document, operation["responses"][str(status)])
            if path == "/metrics":  # not on this server, below
                continue
            with socket.create_connection((host, int(port)), timeout=20) as connection:
                start = f"{method.upper()} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n"
                connection.sendall(start.encode() + header + b"\r\n\r\n")
                head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")
            assert int(head.split()[1]) == status
            assert json.loads(body)["error"]["code"] == code
            assert code in described["content"]["application/json"]["examples"]
            assert (b"\r\nx-request-id:" in head.lower()) is ("X-Request-ID" in described.get("headers", {}))


def _resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    for name in part["$ref"].removeprefix("#/").split("/") if "$ref" in part else []:
        document = document[name]
    return document if "$ref" in part else part


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    assert {(path, method) for path, operations in document["paths"].items() for method in operations} == {
        ("/classify", "post"),
        ("/anomaly_score", "post"),
        ("/models", "get"),
        ("/livez", "get"),
        ("/readyz", "get"),
        ("/healthz", "get"),
        ("/metrics", "get"),
    }


def test_the_examples_are_what_the_document_says(document: dict[str, Any]) -> None:
    examples: list[tuple[type[BaseModel], object]] = [(ErrorAnswer, refusal.example()) for refusal in REFUSALS]
    examples += [(ClassifyAnswer, CLASSIFIED), (AnomalyAnswer, SCORED), (ModelsAnswer, MODELS)]
    for answer, example in examples:
        assert answer.model_validate(example).model_dump(mode="json", exclude_unset=True) == example
        _validate(document, answer.__name__, example)


def test_a_wrong_answer_is_not_what_the_document_says(document: dict[str, Any]) -> None:
    for answer, wrong in [
        ("ClassifyAnswer", {"model": CLASSIFIED["model"], "results": [{"label": "horse"}]}),
        ("AnomalyAnswer", {**SCORED, "warnings": None}),
        ("ErrorAnswer", {"error": {"code": "busy"}}),
        ("ModelsAnswer", {"default": MODELS["default"], "models": [{"name": "x"}]}),
    ]:
        with pytest.raises(jsonschema.ValidationError):
            _validate(document, answer, wrong)


def _validate(document: dict[str, Any], answer: str, content: object) -> None:
    schema = {"$ref": f"#/components/schemas/{answer}", "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(content)


def test_the_listing_holds_what_the_document_says_and_nothing_else(url: str) -> None:
    answer = httpx.get(f"{url}/models").json()
    assert ModelsAnswer.model_validate(answer).model_dump(mode="json") == answer


def test_every_answer_has_a_number(url: str) -> None:
    files = {"images": solid(0).tobytes()}
    for answer in (httpx.get(f"{url}/models"), httpx.get(f"{url}/none"), httpx.post(f"{url}/classify", files=files)):
        assert answer.headers["x-request-id"]
