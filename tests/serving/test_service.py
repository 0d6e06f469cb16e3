from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bentoml
import httpx
import numpy as np
import pytest

from serving.graphs.graph import load_graph
from serving.openapi.forms_and_answers import AnomalyAnswer, ClassifyAnswer
from tests.graphs import solid, write_graph
from tests.multipart import CONTENT_TYPE, body, part
from tests.serving.local_service import local_service
from tests.serving.solid_files import BLACK, WHITE, files, png

CUT_OFF = png(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))[:1500]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_graph(folder, "colours")
    write_graph(folder, "views", formula="transformation")
    write_graph(folder, "cat-only", formula="transformation", in_class="cat", size=64, shorter_side=72)
    return folder


@pytest.fixture(scope="module")
def client(models: Path) -> Iterator[httpx.Client]:
    with (
        local_service(models, max_image_pixels=10_000, max_image_bytes=50_000, max_request_bytes=200_000) as url,
        httpx.Client(base_url=url) as client,
    ):
        yield client


def test_classify_answers_for_each_image_in_order(client: httpx.Client, models: Path) -> None:
    answer = client.post("/classify", files=files(BLACK, WHITE), data={"top_k": "2"})
    assert answer.status_code == 200
    graph = load_graph(models / "colours" / "model.onnx")
    assert answer.json()["model"] == {"name": "colours", "digest": graph.digest}
    expected = graph.run(np.stack([solid(0), solid(255)]))["probabilities"]
    for result, probabilities in zip(answer.json()["results"], expected, strict=True):
        assert result["index"] == probabilities.argmax()
        assert result["probability"] == pytest.approx(probabilities.max(), abs=1e-6)
        assert [entry["probability"] for entry in result["top"]] == pytest.approx(sorted(probabilities)[:0:-1])


def test_anomaly_score_runs_the_classifier_and_the_one_class_graph_of_the_same_data(client: httpx.Client) -> None:
    answer = client.post("/anomaly_score", files=files(BLACK, WHITE)).json()
    assert answer.keys() == {"alpha", "results"}
    assert answer["alpha"] == 0.05
    black, white = answer["results"]
    assert (black["is_anomaly"], white["is_anomaly"]) == (False, True)
    for result in (black, white):
        assert result["kl_rotation"]["model"] == "colours"
        assert [part["model"] for part in result["transformation"]] == ["views"]
        assert "views" not in result["transformation"][0]


def test_models_named_run_in_place_of_the_default_ones(client: httpx.Client) -> None:
    data = {"model": ["cat-only", "views"], "views": "true"}
    (result,) = client.post("/anomaly_score", files=files(WHITE), data=data).json()["results"]
    assert result["kl_rotation"] is None
    assert [part["model"] for part in result["transformation"]] == ["cat-only", "views"]
    assert np.shape(result["transformation"][0]["views"]["probabilities"]) == (4, 3, 3, 3)


def test_an_alpha_that_cannot_fire_is_warned_of(client: httpx.Client) -> None:
    answer = client.post("/anomaly_score", files=files(WHITE), data={"alpha": "0.019"}).json()
    assert len(answer["warnings"]) == 2
    assert answer["results"][0]["is_anomaly"] is False
    assert "warnings" not in client.post("/anomaly_score", files=files(WHITE), data={"alpha": "0.02"}).json()


def test_more_images_than_fit_in_one_run_are_answered_in_order(client: httpx.Client) -> None:
    greys = [png(solid(value)) for value in range(0, 250, 6)]
    results = client.post("/anomaly_score", files=files(*greys)).json()["results"]
    scores = [result["transformation"][0]["score"] for result in results]
    assert len(scores) == len(greys) > 2 * 16
    assert scores == sorted(scores)


BAD_IMAGES = [
    (b"hello", 415, "not_an_image"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "not_an_image"),
    (CUT_OFF, 422, "undecodable_image"),
    (png(solid(0, size=101)), 413, "image_too_large"),
    (b"x" * 50_001, 413, "image_too_large"),
]


@pytest.mark.parametrize("path", ["/classify", "/anomaly_score"])
@pytest.mark.parametrize(("bad", "status", "code"), BAD_IMAGES)
def test_the_first_bad_image_refuses_the_request(
    client: httpx.Client, path: str, bad: bytes, status: int, code: str
) -> None:
    answer = client.post(path, files=files(BLACK, bad, b"junk"))
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["code"], error["image"], error["filename"]) == (code, 1, "1.png")


@pytest.mark.parametrize("path", ["/classify", "/anomaly_score"])
def test_bad_images_are_reported_beside_the_results_of_the_others(client: httpx.Client, path: str) -> None:
    bad = [image for image, _, _ in BAD_IMAGES]
    answer = client.post(path, files=files(BLACK, *bad, WHITE), data={"on_error": "report"})
    assert answer.status_code == 200
    first, *reported, last = answer.json()["results"]
    assert [first, last] == client.post(path, files=files(BLACK, WHITE)).json()["results"]
    assert [(result["error"]["code"], result["error"]["image"]) for result in reported] == [
        (code, index + 1) for index, (_, _, code) in enumerate(BAD_IMAGES)
    ]


def test_bad_images_alone_are_reported_too(client: httpx.Client) -> None:
    answer = client.post("/classify", files=files(b"junk", b"rubbish"), data={"on_error": "report"})
    assert answer.status_code == 200
    assert [result["error"]["image"] for result in answer.json()["results"]] == [0, 1]


REFUSED = [
    ("/classify", {"model": "views"}, 400, "wrong_kind"),
    ("/classify", {"model": "nobody"}, 404, "unknown_model"),
    ("/classify", {"model": ["colours", "colours"]}, 400, "bad_field"),
    ("/classify", {"alpha": "0.05"}, 400, "unknown_field"),
    ("/classify", {"top_k": "0"}, 400, "bad_field"),
    ("/anomaly_score", {"model": "nobody"}, 404, "unknown_model"),
    ("/anomaly_score", {"model": ["views", "views"]}, 400, "bad_field"),
    ("/anomaly_score", {"alpha": "1"}, 400, "bad_field"),
    ("/anomaly_score", {"views": "perhaps"}, 400, "bad_field"),
    ("/anomaly_score", {"on_error": "ignore"}, 400, "bad_field"),
]


@pytest.mark.parametrize(("path", "data", "status", "code"), REFUSED)
def test_bad_fields_are_refused(client: httpx.Client, path: str, data: dict[str, Any], status: int, code: str) -> None:
    answer = client.post(path, files=files(BLACK), data=data)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_fields_in_the_address_are_refused_and_not_ignored(client: httpx.Client) -> None:
    answer = client.post("/anomaly_score?alpha=0.5", files=files(BLACK))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_field")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/classify", 405, "method_not_allowed"),
        ("PUT", "/anomaly_score", 405, "method_not_allowed"),
        ("DELETE", "/models", 405, "method_not_allowed"),
        ("POST", "/models", 405, "method_not_allowed"),
        ("POST", "/", 405, "method_not_allowed"),
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/models/classifier", 404, "not_found"),
        ("GET", "/%ff", 404, "not_found"),
        ("POST", "/classify", 415, "not_multipart"),
        ("GET", "/../../etc/passwd", 404, "not_found"),
    ],
)
def test_what_the_framework_refuses_has_the_same_shape(
    client: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"error"}
    assert answer.json()["error"].keys() == {"code", "message"}


def test_a_pickle_is_refused(client: httpx.Client) -> None:
    answer = client.post("/classify", content=b"\x80\x05N.", headers={"content-type": "application/vnd.bentoml+pickle"})
    assert answer.status_code == 415
    assert answer.json()["error"].keys() == {"code", "message"}


def test_a_body_above_the_limit_is_refused_with_a_length_and_without(client: httpx.Client) -> None:
    whole = body(*(part("images", b"x" * 50_000, f"{index}.png") for index in range(5)))

    def pieces() -> Iterator[bytes]:
        yield from (whole[start : start + 10_000] for start in range(0, len(whole), 10_000))

    for content in (whole, pieces()):
        answer = client.post("/classify", content=content, headers={"content-type": CONTENT_TYPE})
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


def test_models_lists_what_is_loaded(client: httpx.Client) -> None:
    answer = client.get("/models").json()
    assert answer["default"] == {"classifier": "colours", "one_class": ["views"]}
    assert [model["name"] for model in answer["models"]] == ["cat-only", "colours", "views"]
    assert all("scores" not in model["calibration"] for model in answer["models"])


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/", "/docs.json"])
def test_what_bentoml_serves_is_there(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 200


def test_the_document_describes_forms_answers_and_refusals(client: httpx.Client) -> None:
    document = client.get("/docs.json").json()
    for path in ("/classify", "/anomaly_score"):
        operation = document["paths"][path]["post"]
        form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
        assert {"images", "model", "on_error"} <= form.keys()
        assert {"200", "400", "401", "404", "405", "408", "413", "415", "422", "503"} <= operation["responses"].keys()
    assert "get" in document["paths"]["/models"]
    references = set(_references(document))
    parts = document["components"]
    assert references <= {f"#/components/{kind}/{name}" for kind, named in parts.items() for name in named}
    assert "#/components/schemas/ErrorAnswer" in references


def _references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def test_the_document_holds_for_real_answers(client: httpx.Client) -> None:
    data = {"on_error": "report", "alpha": "0.001", "views": "true"}
    answer = client.post("/anomaly_score", files=files(BLACK, b"junk"), data=data).json()
    scores = AnomalyAnswer.model_validate(answer)
    assert _without_none(scores.model_dump()) == _without_none(answer)
    answer = client.post("/classify", files=files(BLACK, b"junk"), data={"on_error": "report"}).json()
    assert _without_none(ClassifyAnswer.model_validate(answer).model_dump()) == _without_none(answer)


def _without_none(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_none(value) for key, value in node.items() if value is not None}
    return [_without_none(value) for value in node] if isinstance(node, list) else node


def test_bentomls_own_client_works(client: httpx.Client, tmp_path: Path) -> None:
    image = tmp_path / "black.png"
    image.write_bytes(BLACK)
    with bentoml.SyncHTTPClient(str(client.base_url)) as bento:
        answer = bento.classify(images=[image, image], top_k=2, on_error="report")
        assert [len(result["top"]) for result in answer["results"]] == [2, 2]
        answer = bento.anomaly_score(images=[image], model=["views"], alpha=0.5, views=True)
        assert answer["alpha"] == 0.5
        assert answer["results"][0]["transformation"][0]["model"] == "views"
        assert answer["results"][0]["kl_rotation"] is None
        assert bento.classify(images=[image])["model"]["name"] == "colours"
        with pytest.raises(bentoml.exceptions.BentoMLException, match="unknown_model"):
            bento.classify(images=[image], model="nobody")
        bento._temp_dir.cleanup()  # its close() leaves this to the garbage collector, with a warning


def test_a_service_of_one_class_graphs_alone_scores_and_says_that_it_cannot_classify(tmp_path: Path) -> None:
    write_graph(tmp_path, "views", formula="transformation")
    with local_service(tmp_path) as url:
        refused = httpx.post(f"{url}/classify", files=files(BLACK))
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "no_classifier")
        (result,) = httpx.post(f"{url}/anomaly_score", files=files(WHITE)).json()["results"]
        assert (result["is_anomaly"], result["kl_rotation"]) == (True, None)


def test_two_classifiers_in_one_request_are_refused(tmp_path: Path) -> None:
    write_graph(tmp_path, "one")
    write_graph(tmp_path, "two", formula="msp")
    with local_service(tmp_path, default_classifier="two") as url:
        refused = httpx.post(f"{url}/anomaly_score", files=files(BLACK), data={"model": ["one", "two"]})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "two_classifiers")
        (result,) = httpx.post(f"{url}/anomaly_score", files=files(BLACK)).json()["results"]
        assert (result["kl_rotation"]["model"], result["kl_rotation"]["formula"]) == ("two", "msp")
        assert result["kl_rotation"]["rotation_loss"] is None
