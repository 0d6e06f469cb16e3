"""All contestants answer one image alike: what is compared is the same work."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.multipart import CONTENT_TYPE, form
from benchmarks.service.contestants.environment import Plan
from benchmarks.service.line_up import CONTESTANTS, OURS, RAW, Interpreters, server_variants
from benchmarks.service.pictures import jpeg, png, textured
from benchmarks.service.work import Work, agrees
from benchmarks.service.workloads import SCORE, TASKS, WORKLOADS
from serving.graphs.graph import load_graph
from serving.images.image_file import read_image
from tests.benchmarks.served import served
from tests.graphs import write_graph
from tests.serving.local_service import local_service

IMAGES = {"png": png(textured(32, 32, 1)), "jpeg": jpeg(textured(300, 200, 2))}
FORMULAS = ("kl_rotation", "transformation")


@pytest.fixture(params=FORMULAS)
def plan(request: pytest.FixtureRequest, tmp_path: Path) -> Plan:
    graph = write_graph(tmp_path / "models", "graph", formula=request.param)
    return Plan(graph, run_threads=1, workers=1, handler_threads=2, port=0)


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest) -> bytes:
    return IMAGES[request.param]


def posted(client: Any, path: str, image: bytes, **fields: str) -> dict[str, Any]:
    answer = client.post(path, content=form([image], list(fields.items())), headers={"Content-Type": CONTENT_TYPE})
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def test_the_work_is_what_the_graph_says(plan: Plan, image: bytes) -> None:
    graph = load_graph(plan.graph)
    outputs = graph.run(read_image(image, graph.manifest.fitting)[None])
    [result] = Work(plan.graph, 1).answer_file(image)["results"]
    if graph.manifest.kind == "classifier":
        probabilities = outputs["probabilities"][0]
        assert result["label"] == graph.manifest.classes[int(probabilities.argmax())]
        assert [one["probability"] for one in result["top"]] == pytest.approx(sorted(probabilities, reverse=True))
    else:
        score = outputs["anomaly_score"][0]
        assert result["score"] == pytest.approx(float(score))
        assert result["p_value"] == (1 + int((graph.calibration_scores >= score).sum())) / 100


def test_our_service_agrees(plan: Plan, image: bytes) -> None:
    path = "/classify" if load_graph(plan.graph).manifest.kind == "classifier" else "/anomaly_score"
    with local_service(plan.graph.parents[1]) as url, httpx.Client(base_url=url, timeout=60) as client:
        assert agrees(posted(client, path, image, model="graph"), Work(plan.graph, 1).answer_file(image))


def test_stock_bentoml_agrees(plan: Plan, image: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in plan.to_environment().items():
        monkeypatch.setenv(name, value)
    from benchmarks.service.contestants.stock_bentoml import Stock

    monkeypatch.setitem(Stock.config, "metrics", {"enabled": False})  # a process can register them only once
    with served(Stock.to_asgi()) as client:
        assert agrees(posted(client, "/answer", image), Work(plan.graph, 1).answer_file(image))


def test_fastapi_agrees(plan: Plan, image: bytes) -> None:
    pytest.importorskip("fastapi", reason="FastAPI is in the extra 'bench'")
    from benchmarks.service.contestants.fastapi_app import build_app

    with served(build_app(plan)) as client:
        assert client.get("/readyz").status_code == 200
        assert agrees(posted(client, "/", image), Work(plan.graph, 1).answer_file(image))


def test_litserve_agrees(plan: Plan) -> None:
    pytest.importorskip("litserve", reason="LitServe is in the extra 'bench'")
    api = importlib.import_module("benchmarks.service.contestants.litserve_app").ImageApi(plan)
    api.setup("cpu")
    work = Work(plan.graph, 1)
    outputs = api.unbatch(api.predict(api.batch([work.read(image) for image in IMAGES.values()])))
    for output, image in zip(outputs, IMAGES.values(), strict=True):
        assert agrees(api.encode_response(output), work.answer_file(image))


def test_answers_agree_only_where_they_do() -> None:
    expected = {"results": [{"label": "cat", "probability": 0.5, "top": []}]}
    assert agrees({"results": [{"label": "cat", "index": 3, "probability": 0.50005}]}, expected)
    assert not agrees({"results": [{"label": "dog", "probability": 0.5}]}, expected)
    assert not agrees({"results": [{"label": "cat", "probability": 0.5002}]}, expected)
    ours = {
        "results": [{"is_anomaly": True, "kl_rotation": None, "transformation": [{"score": -50.001, "p_value": 1.0}]}]
    }
    assert agrees(ours, {"results": [{"score": -50.003, "p_value": 1.0}]})
    assert not agrees(ours, {"results": [{"score": -50.1, "p_value": 1.0}]})
    assert not agrees(ours, expected)


def test_a_plan_survives_the_environment(plan: Plan) -> None:
    assert Plan.from_environment(plan.to_environment()) == plan
    with pytest.raises(KeyError, match="BENCHMARK_WORKERS"):
        Plan.from_environment({"BENCHMARK_GRAPH": "x", "BENCHMARK_RUN_THREADS": "1"})


def test_each_server_has_variants_of_different_names() -> None:
    pythons = Interpreters(Path("/a/bin/python"), Path("/b/bin/python"))
    for contestant in CONTESTANTS.keys() - {RAW}:
        for cores in (1, 2, 8):
            variants = server_variants(contestant, pythons, cores)
            assert len({variant.title for variant in variants}) == len(variants) > 0
    [ours] = server_variants(OURS, pythons, 2, ("--workers", "2"), cuda=True)
    launch = ours.launch(SCORE, 4000)
    assert launch.command == ["/a/bin/quarterturn", "serve", "--port", "4000", "--workers", "2"]
    assert (launch.environment, launch.fields) == ({"QUARTERTURN_DEVICE": "cuda"}, [("model", SCORE.model)])


def test_the_shipped_models_are_those_the_titles_say() -> None:
    assert [task.title for task in TASKS.values()] == [
        "light classifier (WRN 16-1, 4 views)",
        "anomaly score (WRN 10-2, 36 views)",
    ]
    assert all(np.frombuffer(workload.data, np.uint8).size > 1000 for workload in WORKLOADS.values())


def test_the_answers_are_json(plan: Plan, image: bytes) -> None:
    answer = Work(plan.graph, 1).answer_file(image)
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
