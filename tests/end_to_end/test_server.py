"""A server process over tiny graphs, driven over HTTP: what it answers, and how it refuses."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bentoml
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from serving.graph import Graph, load_graph
from tests.end_to_end.ports import free_port
from tests.end_to_end.servers import running
from tests.graphs import solid, write_graph
from tests.multipart import CONTENT_TYPE, body, part

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
HORSE = (EXAMPLES / "horse.png").read_bytes()
ENDPOINTS = ("/classify", "/anomaly_score")
LIMITS = {"images": 12, "image_bytes": 300_000, "image_pixels": 1_000_000, "request_bytes": 1_000_000, "in_flight": 2}


@dataclass
class Server:
    """A running server: its address, a client for it, where its output goes, and its graphs by name."""

    url: str
    client: httpx.Client
    log: Path
    graphs: dict[str, Graph]

    def post(self, path: str, *images: bytes, **fields: Any) -> httpx.Response:
        files = [("images", (f"{index}.png", image)) for index, image in enumerate(images)]
        return self.client.post(path, files=files, data=fields)

    def results(self, path: str, *images: bytes, **fields: Any) -> list[Any]:
        answer = self.post(path, *images, **fields)
        assert answer.status_code == 200, answer.text
        results: list[Any] = answer.json()["results"]
        return results


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    write_graph(folder / "models", "colours")
    write_graph(folder / "models", "views", formula="transformation")
    write_graph(folder / "models", "cat-only", formula="transformation", in_class="cat", size=64, shorter_side=72)
    write_graph(folder / "models", "second", formula="msp")
    (folder / "metrics").mkdir()
    environment = {
        **os.environ,
        **{f"QUARTERTURN_MAX_{name.upper()}": str(value) for name, value in LIMITS.items()},
        "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"),
        "CUDA_VISIBLE_DEVICES": "",
    }
    port = free_port()
    command = [sys.executable, "-m", "serving.cli", "serve", "--port", str(port), "--models", str(folder / "models")]
    graphs = {path.parent.name: load_graph(path) for path in (folder / "models").glob("*/model.onnx")}
    url = f"http://localhost:{port}"
    with ExitStack() as stack:
        output = stack.enter_context((folder / "log").open("w"))
        options: dict[str, Any] = {"env": environment, "stdout": output, "stderr": subprocess.STDOUT}
        stack.enter_context(running([*command, "--default-classifier", "colours"], port, **options))
        ready = (folder / "log").read_text()
        client = stack.enter_context(httpx.Client(base_url=url, timeout=60))
        yield Server(url, client, folder / "log", graphs)
    assert "Service quarterturn initialized" in ready, "ready before the service was made"
    assert "Traceback" not in (folder / "log").read_text()


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(pixels: NDArray[np.uint8]) -> bytes:
    return encoded(Image.fromarray(pixels), "PNG")


def error_of(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Return the error of a refusal, which has the one shape."""
    assert answer.headers["content-type"] == "application/json"
    assert "Traceback" not in answer.text
    content = answer.json()
    assert content.keys() == {"error"}
    error: dict[str, Any] = content["error"]
    assert {"code", "message"} <= error.keys() <= {"code", "message", "image", "filename"}
    assert (answer.status_code, error["code"]) == (status, code), error
    return error


BLACK, WHITE = png(solid(0)), png(solid(255))
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def bomb(width: int, height: int) -> bytes:
    """Return a PNG that claims so many pixels and holds none: decoding it would say that it is cut off."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100)))


BAD_IMAGES = {
    "text": (b"hello", 415, "not_an_image"),
    "empty": (b"", 415, "not_an_image"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "not_an_image"),
    "pdf": (b"%PDF-1.7 and so on", 415, "not_an_image"),
    "truncated png": (png(NOISE)[:5000], 422, "undecodable_image"),
    "truncated jpeg": (encoded(Image.fromarray(NOISE), "JPEG")[:1000], 422, "undecodable_image"),
    "signature alone": (b"\x89PNG\r\n\x1a\n", 422, "undecodable_image"),
    "too many pixels": (png(np.zeros((1001, 1000, 3), np.uint8)), 413, "image_too_large"),
    "bomb": (bomb(60_000, 60_000), 413, "image_too_large"),
    "too many bytes": (bytes(LIMITS["image_bytes"] + 1), 413, "image_too_large"),
}


def test_the_log_says_what_runs_where(server: Server) -> None:
    log = server.log.read_text()
    assert "running on the CPU: " in log
    for name, graph in server.graphs.items():
        assert f"loaded {name} ({graph.digest}) on CPUExecutionProvider" in log


def test_answers_are_what_the_graphs_say(server: Server) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(HORSE)))[None]
    expected = {name: server.graphs[name].run(pixels) for name in ("colours", "views")}
    [result] = server.results("/classify", HORSE)
    assert result["probability"] == pytest.approx(expected["colours"]["probabilities"].max(), rel=1e-5)
    assert result["index"] == expected["colours"]["probabilities"].argmax()

    answer = server.post("/anomaly_score", HORSE, alpha="0.3", views="true").json()
    [result] = answer["results"]
    verdicts = []
    for part_, name in ((result["kl_rotation"], "colours"), (result["transformation"][0], "views")):
        graph, score = server.graphs[name], float(expected[name]["anomaly_score"][0])
        calibration = graph.manifest.calibration.scores
        p_value = (1 + sum(other >= score for other in calibration)) / (len(calibration) + 1)
        assert (part_["model"], part_["digest"], part_["calibration_n"]) == (name, graph.digest, len(calibration))
        assert part_["score"] == pytest.approx(score, rel=1e-5)
        assert part_["p_value"] == pytest.approx(p_value)
        assert part_["is_anomaly"] == (p_value <= 0.3)
        verdicts.append(p_value <= 0.3 / 2)
    assert (answer["alpha"], result["is_anomaly"]) == (0.3, any(verdicts))
    parts = result["kl_rotation"]
    assert parts["score"] == pytest.approx(parts["rotation_loss"] - parts["kl_uniform"], abs=1e-5)
    views = result["transformation"][0]["views"]["probabilities"]
    assert np.allclose(views, expected["views"]["view_probabilities"][0], atol=1e-6)


def test_every_format_gives_the_same_answer(server: Server) -> None:
    horse = Image.open(io.BytesIO(HORSE))
    lossless = [
        encoded(horse, "WEBP", lossless=True),
        encoded(horse, "BMP"),
        encoded(horse, "TIFF"),
        encoded(horse, "TIFF", compression="tiff_lzw"),
    ]
    for path in ENDPOINTS:
        first, *others = server.results(path, HORSE, *lossless)
        assert others == [first] * len(lossless)
    near = [encoded(horse, "JPEG", quality=98), encoded(horse, "GIF"), encoded(horse, "WEBP", quality=98)]
    first, *others = (result["transformation"][0]["score"] for result in server.results("/anomaly_score", HORSE, *near))
    assert others == pytest.approx([first] * len(near), rel=0.02)


def test_images_of_any_size_and_kind_are_fitted(server: Server) -> None:
    images = [
        (EXAMPLES / "seven.png").read_bytes(),
        encoded(Image.fromarray(NOISE).resize((500, 40)), "JPEG"),
        encoded(Image.new("L", (1, 1)), "PNG"),
        encoded(Image.new("CMYK", (40, 60)), "JPEG"),
        encoded(Image.new("RGBA", (33, 31), (0, 0, 0, 0)), "PNG"),
        encoded(Image.new("I;16", (50, 50), 65535), "PNG"),
    ]
    results = server.results("/anomaly_score", *images, model=["colours", "views", "cat-only"])
    assert [len(result["transformation"]) for result in results] == [2] * len(images)
    assert all(0 < result["kl_rotation"]["p_value"] <= 1 for result in results)
    transparent, sixteen_bit = results[4:]
    assert transparent["is_anomaly"]  # alpha over white, and white is the strangest there is to these graphs
    assert sixteen_bit["kl_rotation"]["score"] == transparent["kl_rotation"]["score"]


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


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/classify", 405, "method_not_allowed"),
        ("PUT", "/anomaly_score", 405, "method_not_allowed"),
        ("POST", "/models", 405, "method_not_allowed"),
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/", 405, "method_not_allowed"),
        ("GET", "/models/colours", 404, "not_found"),
        ("GET", "/%ff", 404, "not_found"),
    ],
)
def test_wrong_addresses_and_methods_have_the_one_shape(
    server: Server, method: str, path: str, status: int, code: str
) -> None:
    error_of(server.client.request(method, path), status, code)


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


def begun_upload(server: Server) -> socket.socket:
    """Send half of an upload and keep the connection open."""
    address = httpx.URL(server.url)
    connection = socket.create_connection((address.host, address.port or 80))
    whole = body(part("images", HORSE, "horse.png"))
    head = f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(whole)}\r\n\r\n"
    connection.sendall(head.encode() + whole[: len(whole) // 2])
    return connection


def answer_once_free(server: Server) -> httpx.Response:
    """Ask until the server is no longer full."""
    deadline = time.monotonic() + 20
    while (answer := server.post("/classify", HORSE)).status_code == 503 and time.monotonic() < deadline:
        time.sleep(0.05)
    return answer


def test_a_full_server_refuses_and_aborted_uploads_free_it(server: Server) -> None:
    for _ in range(2):
        with ExitStack() as uploads:
            deadline = time.monotonic() + 20
            while (refused := server.post("/classify", HORSE)).status_code == 200:
                assert time.monotonic() < deadline, "half-sent uploads do not count"
                uploads.enter_context(begun_upload(server))
                time.sleep(0.05)
            error_of(refused, 503, "busy")
            assert int(refused.headers["retry-after"]) >= 1
            assert server.client.get("/livez").status_code == server.client.get("/readyz").status_code == 200
        assert answer_once_free(server).status_code == 200


def test_models_are_listed_with_what_is_public(server: Server) -> None:
    answer = server.client.get("/models").json()
    assert answer["default"] == {"classifier": "colours", "one_class": ["views"]}
    listed = {model["name"]: model for model in answer["models"]}
    assert {name: model["digest"] for name, model in listed.items()} == {
        name: graph.digest for name, graph in server.graphs.items()
    }
    assert listed["colours"]["classes"] == ["cat", "dog", "frog"]
    assert listed["colours"]["calibration"]["n"] == 99
    assert listed["cat-only"]["normal"] == "cat"
    assert "scores" not in json.dumps(answer)


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/"])
def test_probes_and_the_page_are_there(server: Server, path: str) -> None:
    assert server.client.get(path).status_code == 200


def test_metrics_count_requests_by_endpoint_and_status(server: Server) -> None:
    server.post("/classify", HORSE)
    error_of(server.post("/classify", b"junk"), 415, "not_an_image")
    metrics = server.client.get("/metrics").text
    for status in (200, 415):
        assert f'bentoml_service_request_total{{endpoint="/classify",http_response_code="{status}"' in metrics
    assert 'http_response_code="500",runner_name="quarterturn"' in metrics  # counted from the start, and none
    assert all(line.endswith(" 0.0") for line in metrics.splitlines() if "_total{" in line and '"500"' in line)


def test_the_document_is_openapi_with_endpoints_and_refusals(server: Server) -> None:
    document = server.client.get("/docs.json").json()
    assert document["openapi"].startswith("3.")
    assert {"title", "version"} <= document["info"].keys()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    identifiers = [operation["operationId"] for operation in operations if "operationId" in operation]
    assert len(identifiers) == len(set(identifiers))
    assert all(operation["responses"] for operation in operations)
    assert "get" in document["paths"]["/models"]
    for path in ENDPOINTS:
        post = document["paths"][path]["post"]
        assert {"200", "400", "404", "413", "415", "422", "503"} <= post["responses"].keys()
        assert "multipart/form-data" in post["requestBody"]["content"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_curl_as_the_server_suggests(server: Server) -> None:
    deadline = time.monotonic() + 20
    while "Try: " not in (log := server.log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    [command] = [line.partition("Try: ")[2] for line in log.splitlines() if "Try: " in line]
    assert command.endswith(f"{server.url}/anomaly_score")
    answer = json.loads(subprocess.check_output(f"{command} --silent --max-time 30", shell=True, text=True))
    assert answer["results"] == server.results("/anomaly_score", HORSE)


def test_bentomls_own_client_works(server: Server) -> None:
    image = EXAMPLES / "horse.png"
    with bentoml.SyncHTTPClient(server.url) as client:
        classified = client.classify(images=[image], top_k=2)
        assert classified["results"][0]["probability"] == server.results("/classify", HORSE)[0]["probability"]
        assert len(classified["results"][0]["top"]) == 2
        scored = client.anomaly_score(images=[image, image], model=["second", "cat-only"], alpha=0.2, on_error="report")
        assert scored["alpha"] == 0.2
        assert [result["kl_rotation"]["model"] for result in scored["results"]] == ["second"] * 2
        client._temp_dir.cleanup()  # its close() leaves this to the garbage collector, with a warning
