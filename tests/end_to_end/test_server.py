"""A server process over tiny graphs, driven over HTTP: what it answers."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import time

import bentoml
import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.tiny_server import BLACK, ENDPOINTS, EXAMPLES, HORSE, NOISE, WHITE, Server, error_of
from tests.pictures import encoded

pytestmark = pytest.mark.slow


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
    values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    for status in (200, 415):
        assert float(values[f'quarterturn_requests_total{{endpoint="/classify",status="{status}"}}']) >= 1
    assert float(values['quarterturn_images_refused_total{code="not_an_image"}']) >= 1
    assert float(values['quarterturn_batch_images_count{model="colours"}']) >= 1
    assert float(values['quarterturn_request_duration_seconds_bucket{endpoint="/classify",le="60.0"}']) >= 2
    assert not any('"500"' in name and float(value) for name, value in values.items() if "_total{" in name)


def test_metrics_count_p_values_and_anomalies_of_each_model(server: Server) -> None:
    def read() -> dict[str, float]:
        lines = server.client.get("/metrics").text.splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    before = read()
    server.results("/anomaly_score", BLACK, WHITE, model="colours")
    after = read()
    assert (
        after['quarterturn_p_value_count{model="colours"}'] - before['quarterturn_p_value_count{model="colours"}'] == 2
    )
    name = 'quarterturn_anomalies_total{model="colours"}'
    assert after[name] - before.get(name, 0.0) == 1
    for verdict in ("anomaly", "normal"):
        name = f'quarterturn_verdicts_total{{verdict="{verdict}"}}'
        assert after[name] - before.get(name, 0.0) == 1
    for gauge in ("requests_in_flight", "held_bytes", 'queued_images{model="colours"}'):
        assert after[f"quarterturn_{gauge}"] >= 0


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
