from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import Counter

from serving.metrics import metrics

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


def test_there_is_one_set_of_metrics() -> None:
    assert metrics() is metrics()
