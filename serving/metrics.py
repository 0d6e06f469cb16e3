"""Metrics: what ``GET /metrics`` shows of this service (docs/metrics.md).

With several workers Prometheus's client adds theirs up through files (its multiprocess mode), for which a variable has
to be set before it is imported: so that is done at the first use of a metric.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram

SECONDS = (
    0.001,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)
_MODEL_GAUGE = re.compile(r'quarterturn_queued_images\{model="([^"]*)"\}')
P_VALUES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Metrics:
    """The metrics of one process, registered with Prometheus's client."""

    requests: Counter
    seconds: Histogram
    in_flight: Gauge
    held_bytes: Gauge
    queued_images: Gauge
    batch_images: Histogram
    images_decoded: Counter
    images_refused: Counter
    verdicts: Counter
    anomalies: Counter
    p_values: Histogram
    reloads: Counter

    def __init__(self) -> None:
        from prometheus_client import Counter, Gauge, Histogram

        def name(rest: str) -> str:
            return f"quarterturn_{rest}"

        self.requests = Counter(name("requests"), "Requests by address and HTTP status", ["endpoint", "status"])
        self.seconds = Histogram(
            name("request_duration_seconds"), "From a request's headers to its answer", ["endpoint"], buckets=SECONDS
        )
        self.in_flight = Gauge(
            name("requests_in_flight"), "Requests that are read or worked on", multiprocess_mode="livesum"
        )
        self.held_bytes = Gauge(
            name("held_bytes"), "Bytes of requests that are read or worked on", multiprocess_mode="livesum"
        )
        self.queued_images = Gauge(
            name("queued_images"), "Images that wait for their model", ["model"], multiprocess_mode="livesum"
        )
        self.batch_images = Histogram(
            name("batch_images"), "Images in one run of a model", ["model"], buckets=(1, 2, 4, 8, 16, 32, 64)
        )
        self.images_decoded = Counter(name("images_decoded"), "Uploaded images that were decoded")
        self.images_refused = Counter(name("images_refused"), "Uploaded images that were refused, by code", ["code"])
        self.verdicts = Counter(name("verdicts"), "Scored images by the verdict of all models together", ["verdict"])
        self.anomalies = Counter(name("anomalies"), "Images with a p-value at or below their alpha", ["model"])
        self.p_values = Histogram(name("p_value"), "p-values of scored images", ["model"], buckets=P_VALUES)
        self.reloads = Counter(name("model_reloads"), "Reloads of the models folder", ["outcome"])
        # A counter that begins with its first event is one whose first event no rate() or increase() sees.
        for path in ("/classify", "/anomaly_score"):
            for status in ("200", "503"):
                self.requests.labels(path, status)
        for verdict in ("anomaly", "normal"):
            self.verdicts.labels(verdict)
        for outcome in ("done", "refused"):
            self.reloads.labels(outcome)

    def expect_model(self, name: str) -> None:
        """Begin the series of a model, at 0."""
        self.batch_images.labels(name)
        self.anomalies.labels(name)
        self.p_values.labels(name)

    def observe_verdicts(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Count what all models together said of some images."""
        anomalies = sum(result["is_anomaly"] for result in results)
        if anomalies:
            self.verdicts.labels("anomaly").inc(anomalies)
        if anomalies < len(results):
            self.verdicts.labels("normal").inc(len(results) - anomalies)

    def observe_scores(self, model: str, parts: Sequence[Mapping[str, Any]]) -> None:
        """Count what one model said of some images: the p-value of each, and whether it is an anomaly."""
        p_values = self.p_values.labels(model)
        for part in parts:
            p_values.observe(part["p_value"])
        flagged = sum(part["is_anomaly"] for part in parts)
        if flagged:
            self.anomalies.labels(model).inc(flagged)


@cache
def metrics() -> Metrics:
    """Return this process's metrics, made at the first call."""
    return Metrics()


def drop_gauges_of_others(folder: Path, alive: Collection[int]) -> None:
    """Drop what processes that are not alive have last said of themselves; what they counted stays.

    ``folder`` is that of Prometheus's multiprocess mode.
    """
    for path in folder.glob("gauge_live*.db"):
        pid = re.search(r"_(\d+)\.db$", path.name)
        if pid and int(pid[1]) not in alive:
            path.unlink(missing_ok=True)


def metrics_page(names: Collection[str]) -> str:
    """Return the page of ``/metrics``: the metrics of all processes of this server, added up from their files.

    ``names`` are the models that answer now. To be called in a thread: it reads a few files a process. Raises
    ValueError where PROMETHEUS_MULTIPROC_DIR is not set.
    """
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return without_models_gone(generate_latest(registry).decode(), names)


def without_models_gone(page: str, names: Collection[str]) -> str:
    """Return a page of metrics without the gauges of models that are not among ``names``, which a reload removed.

    Prometheus's multiprocess mode itself never forgets a label.
    """
    return "".join(
        line for line in page.splitlines(keepends=True) if not (gauge := _MODEL_GAUGE.match(line)) or gauge[1] in names
    )
