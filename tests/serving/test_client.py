"""The Python client against the real service."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from serving import client_answers
from serving.client import Client, RefusedError
from serving.openapi import forms_and_answers
from tests.graphs import solid, write_graph
from tests.pictures import encoded
from tests.serving.local_service import local_service

KEY = "a-long-secret-key"
BLACK, WHITE = encoded(Image.fromarray(solid(0))), encoded(Image.fromarray(solid(255)))
NOISE = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_graph(folder, "colours")
    write_graph(folder, "views", formula="transformation")
    write_graph(folder, "cat-only", formula="transformation", in_class="cat")
    return folder


@pytest.fixture(scope="module")
def url(models: Path) -> Iterator[str]:
    with local_service(models, api_key=KEY, max_images=5) as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Client]:
    with Client(url, api_key=KEY) as client:
        yield client


def assert_keys_of(answer: Any, kind: Any) -> None:
    """Assert that an answer has the keys its type says, whatever is in it too."""
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    if typing.is_typeddict(origin):
        assert origin.__required_keys__ <= answer.keys() <= origin.__annotations__.keys(), origin.__name__
        for name, inner in typing.get_type_hints(origin).items():
            if name in answer:
                is_open = isinstance(inner, typing.TypeVar) or inner == list[client_answers.ResultT]  # type: ignore[valid-type]
                assert_keys_of(answer[name], list[arguments[0]] if is_open else inner)
    elif origin is list:
        for one in answer:
            assert_keys_of(one, arguments[0])
    elif origin is types.UnionType and answer is not None:
        (of_dict,) = [one for one in arguments if typing.is_typeddict(one)] or [object]
        assert_keys_of(answer, of_dict)


def test_classify_is_the_services_answer(client: Client, url: str) -> None:
    answer = client.classify(BLACK, WHITE, top_k=2, model="colours")
    asked = {"data": {"top_k": "2"}, "headers": {"X-API-Key": KEY}}
    files = [("images", ("a", BLACK)), ("images", ("b", WHITE))]
    assert answer == httpx.post(f"{url}/classify", files=files, **asked).json()  # type: ignore[arg-type]
    assert [len(result["top"]) for result in answer["results"]] == [2, 2]
    assert_keys_of(answer, client_answers.ClassifyAnswer[client_answers.ClassifyResult])


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_a_path_that_is_no_text_is_sent(client: Client, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"a\xff.png")
    path.write_bytes(BLACK)
    bad = tmp_path / os.fsdecode(b"b\xff.png")
    bad.write_bytes(b"no image")
    with bad.open("rb") as file:
        answer = client.classify(path, bad, file, on_error="report")
    assert [result.get("label") is None for result in answer["results"]] == [False, True, True]
    assert {result["error"]["filename"] for result in answer["results"][1:]} == {"b?.png"}


def test_anomaly_score_is_the_services_answer(client: Client) -> None:
    answer = client.anomaly_score(BLACK, WHITE, alpha=0.2)
    assert answer["alpha"] == 0.2
    assert [result["is_anomaly"] for result in answer["results"]] == [False, True]
    assert_keys_of(answer, client_answers.AnomalyAnswer[client_answers.AnomalyResult])
    assert "warnings" in client.anomaly_score(BLACK, alpha=0.0001)


def test_models_are_named_and_their_views_asked_for(client: Client) -> None:
    (result,) = client.anomaly_score(WHITE, model=["cat-only", "views"], views=True)["results"]
    assert result["kl_rotation"] is None
    assert [part["model"] for part in result["transformation"]] == ["cat-only", "views"]
    assert np.shape(result["transformation"][0]["views"]["probabilities"]) == (4, 3, 3, 3)
    assert_keys_of(result, client_answers.AnomalyResult)
    (result,) = client.anomaly_score(WHITE, model="colours")["results"]
    assert (result["transformation"], result["kl_rotation"] is None) == ([], False)


def test_models_are_listed(client: Client) -> None:
    answer = client.models()
    assert answer["default"] == {"classifier": "colours", "one_class": ["views"]}
    assert [model["name"] for model in answer["models"]] == ["cat-only", "colours", "views"]
    assert_keys_of(answer, client_answers.ModelsAnswer)


def test_an_image_is_a_path_or_bytes_or_an_open_file(client: Client, tmp_path: Path) -> None:
    (tmp_path / "noise.png").write_bytes(NOISE)
    with (tmp_path / "noise.png").open("rb") as opened:
        same = (tmp_path / "noise.png", str(tmp_path / "noise.png"), NOISE, io.BytesIO(NOISE), opened)
        results = client.classify(*same)["results"]
    assert all(result == results[0] for result in results)
    assert results[0] != client.classify(WHITE)["results"][0]


def test_what_is_no_image_is_said_before_anything_is_sent(client: Client, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no images"):
        client.classify()
    with pytest.raises(FileNotFoundError):
        client.classify(tmp_path / "missing.png")
    picture: Any = Image.new("RGB", (2, 2))
    with pytest.raises(TypeError, match="not Image"):
        client.classify(picture)


@pytest.mark.parametrize("method", ["classify", "anomaly_score"])
def test_a_bad_image_is_named(client: Client, method: str, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no image")
    with pytest.raises(RefusedError) as caught:
        getattr(client, method)(BLACK, tmp_path / "notes.png", b"junk")
    error = caught.value
    assert (error.status, error.code, error.image, error.filename) == (415, "not_an_image", 1, "notes.png")
    assert str(error).startswith("415 not_an_image, image 1 (notes.png): ")
    assert error.message in str(error)


def test_bad_images_are_reported_in_their_places(client: Client) -> None:
    good, bad = client.classify(BLACK, NOISE[:-40], on_error="report")["results"]
    assert "error" not in good
    assert good["label"]
    assert "error" in bad
    assert (bad["error"]["code"], bad["error"]["image"]) == ("undecodable_image", 1)
    assert_keys_of(bad, client_answers.BadImage)
    assert_keys_of(bad["error"], client_answers.ErrorDetail)
    _, scored = client.anomaly_score(b"junk", WHITE, on_error="report")["results"]
    assert "error" not in scored
    assert scored["is_anomaly"]


def test_other_refusals_name_no_image(client: Client) -> None:
    for status, code, ask in [
        (404, "unknown_model", lambda: client.classify(BLACK, model="nobody")),
        (400, "bad_field", lambda: client.anomaly_score(BLACK, alpha=2)),
        (413, "too_many_images", lambda: client.classify(*[BLACK] * 6)),
    ]:
        with pytest.raises(RefusedError) as caught:
            ask()
        assert (caught.value.status, caught.value.code, caught.value.image) == (status, code, None)


@pytest.mark.parametrize("key", [None, "a-wrong-key"])
def test_without_the_key_there_is_no_answer(url: str, key: str | None) -> None:
    with Client(url, api_key=key) as client, pytest.raises(RefusedError, match=r"^401 unauthorized: .*X-API-Key"):
        client.classify(BLACK)


def test_a_server_that_is_not_there_is_httpx_s_error() -> None:
    with Client("http://127.0.0.1:1") as client, pytest.raises(httpx.ConnectError):
        client.models()


@pytest.mark.parametrize(
    "name",
    ["ErrorDetail", "ModelName", "LabelProbability", "ClassifierScore", "Views", "OneClassScore"],
)
def test_types_are_those_of_the_openapi_document(name: str) -> None:
    described = getattr(forms_and_answers, name).model_fields
    assert getattr(client_answers, name).__annotations__.keys() == described.keys()


def test_the_client_loads_nothing_of_the_server() -> None:
    code = "import sys, serving.client; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert "httpx" in loaded
    assert not loaded & {"bentoml", "onnxruntime", "starlette", "numpy", "PIL", "pydantic"}


def test_numbers_of_any_kind_are_sent(client: Client) -> None:
    [result] = client.classify(BLACK, top_k=np.int64(2))["results"]  # type: ignore[call-overload]
    assert len(result["top"]) == 2
    for alpha in (np.float32(0.25), Decimal("0.25")):
        assert client.anomaly_score(BLACK, alpha=alpha)["alpha"] == 0.25  # type: ignore[call-overload]


def test_a_file_without_a_name_of_its_own_is_sent(client: Client) -> None:
    for name in ("", "/"):
        nameless = io.BytesIO(BLACK)
        nameless.name = name
        assert client.classify(nameless)["results"]


def test_what_no_server_can_take_is_refused_when_a_client_is_made() -> None:
    with pytest.raises(ValueError, match="retries"):
        Client("http://localhost:1", retries=-1)
    with pytest.raises(ValueError, match="the API key holds a character") as refused:
        Client("http://localhost:1", api_key="a-secret-key\n")
    assert "secret" not in str(refused.value)
