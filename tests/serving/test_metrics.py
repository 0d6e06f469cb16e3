from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from serving.metrics import drop_gauges_of_others, metrics, without_models_gone

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_page_lists_every_metric_with_its_labels_and_no_other() -> None:
    page = re.findall(r"^\| `(\w+)` \| \w+ \|([^|]*)\|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    listed = {name: tuple(re.findall(r"`(\w+)`", labels)) for name, labels in page}
    made = {
        metric._name + ("_total" if isinstance(metric, Counter) else ""): metric._labelnames
        for metric in vars(metrics()).values()
    }
    assert listed == made


def test_p_values_and_anomalies_are_counted_by_model() -> None:
    def value(name: str) -> float:
        samples = [sample for family in metrics().anomalies.collect() for sample in family.samples]
        samples += [sample for family in metrics().p_values.collect() for sample in family.samples]
        return sum(s.value for s in samples if s.name == name and s.labels.get("model") == "test-model")

    metrics().observe_scores(
        "test-model", [{"p_value": 0.01, "is_anomaly": True}, {"p_value": 0.9, "is_anomaly": False}]
    )
    assert value("quarterturn_anomalies_total") == 1
    assert value("quarterturn_p_value_sum") == 0.91


def test_verdicts_are_counted() -> None:
    def values() -> dict[str, float]:
        samples = [sample for family in metrics().verdicts.collect() for sample in family.samples]
        return {s.labels["verdict"]: s.value for s in samples if s.name == "quarterturn_verdicts_total"}

    before = {"anomaly": 0.0, "normal": 0.0} | values()
    metrics().observe_verdicts([{"is_anomaly": True}, {"is_anomaly": False}, {"is_anomaly": False}])
    metrics().observe_verdicts([{"is_anomaly": True}])
    assert values() == {"anomaly": before["anomaly"] + 2, "normal": before["normal"] + 2}


def test_there_is_one_set_of_metrics() -> None:
    assert metrics() is metrics()


COUNT = """
from serving.metrics import metrics
metrics().held_bytes.set(7)
metrics().images_decoded.inc(3)
"""


def test_gauges_of_processes_that_died_go_and_counts_stay(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    pids = []
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", COUNT], env=environment) as process:
            assert process.wait(60) == 0
            pids.append(process.pid)

    def page() -> dict[str, str]:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(tmp_path))
        lines = generate_latest(registry).decode().splitlines()
        return dict(line.split() for line in lines if line.startswith("quarterturn_") and "{" not in line)

    assert page()["quarterturn_held_bytes"] == "14.0"
    drop_gauges_of_others(tmp_path, pids[:1])
    assert page()["quarterturn_held_bytes"] == "7.0"
    drop_gauges_of_others(tmp_path, [])
    assert "quarterturn_held_bytes" not in page()
    assert page()["quarterturn_images_decoded_total"] == "6.0"


def test_the_page_forgets_the_gauges_of_a_model_that_is_gone() -> None:
    metrics().queued_images.labels("here").set(1)
    metrics().queued_images.labels("gone").set(2)
    metrics().anomalies.labels("gone").inc()
    page = generate_latest().decode()
    named = set(re.findall(r'quarterturn_queued_images{model="([^"]*)"}', page))  # other tests name models too
    shown = without_models_gone(page, named - {"gone"})
    assert set(page.splitlines()) - set(shown.splitlines()) == {'quarterturn_queued_images{model="gone"} 2.0'}
    assert 'quarterturn_anomalies_total{model="gone"} 1.0' in shown
