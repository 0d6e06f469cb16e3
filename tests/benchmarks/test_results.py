"""What follows from measurements: the best variant, medians, ratios within a round, the bars, and the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.service.bars import bars
from benchmarks.service.line_up import OURS, RAW
from benchmarks.service.load import Load
from benchmarks.service.results import Measurement, Results, best_variant, cells, ranking
from benchmarks.service.tables import digits, fill, parts, render

LOAD = Load(requests_per_second=100.0, p50=5.0, p95=7.0, p99=9.0, answered=200, failed=0, seconds=2.0, cpu_seconds=0.2)


def measured(
    contestant: str,
    number: int | None,
    rate: float,
    *,
    p50: float = 5.0,
    failed: int = 0,
    variant: str = "defaults",
    workload: str = "classify-png",
    connections: int = 16,
) -> Measurement:
    load = replace(LOAD, requests_per_second=rate, p50=p50, failed=failed)
    return Measurement(workload, connections, contestant, variant, number, load, server_cpu_seconds=0.5)


def test_the_best_variant_is_the_fastest_without_failures() -> None:
    trials = [
        measured("fastapi", None, 50, variant="slow"),
        measured("fastapi", None, 90, variant="fast"),
        measured("fastapi", None, 900, variant="refuses", failed=3),
    ]
    assert best_variant(trials) == "fast"
    assert best_variant([trials[2], replace(trials[2], variant="other")]) == "refuses"
    with pytest.raises(ValueError, match="empty"):
        best_variant([])


def test_of_a_variant_tried_several_times_the_median_counts() -> None:
    lucky = [measured(RAW, None, rate, variant="lucky once") for rate in (100, 70, 71)]
    steady = [measured(RAW, None, rate, variant="steady") for rate in (90, 80, 95)]
    failed = [measured(RAW, None, 99, variant="failed once", failed=count) for count in (0, 1, 0)]
    assert ranking([*lucky, *steady, *failed]) == ["steady", "lucky once", "failed once"]


def test_ratios_are_taken_within_a_round() -> None:
    # Round 1 ran on a machine half as fast: the ratio of the medians would be 0.8, those of the rounds are not.
    raw = [measured(RAW, 0, 1000, p50=1.0), measured(RAW, 1, 500, p50=2.0), measured(RAW, 2, 1000, p50=1.0)]
    ours = [measured(OURS, 0, 900, p50=2.0), measured(OURS, 1, 300, p50=5.0), measured(OURS, 2, 800, p50=2.5, failed=1)]
    trial = measured(OURS, None, 5)
    _, cell = cells([trial, *raw, *ours])
    assert (cell.contestant, cell.requests_per_second, cell.failed) == (OURS, 800, 1)
    assert cell.ratios == pytest.approx((0.9, 0.6, 0.8))
    assert cell.ratio == pytest.approx(0.8)
    assert cell.p50_over_raw == pytest.approx(1.5)
    assert cell.cpu_ms_per_answer == pytest.approx(1e3 * 0.5 / 200)
    assert cell.generator_cores == pytest.approx(0.1)


def test_without_raw_there_is_no_ratio() -> None:
    [cell] = cells([measured(OURS, 0, 900)])
    assert (cell.ratios, cell.ratio, cell.p50_over_raw) == (None, None, None)


def run() -> Results:
    measurements = [measured(name, None, 1) for name in ("fastapi", "litserve")]
    for contestant, rate, p50 in ((RAW, 1000, 1.0), (OURS, 850, 2.5), ("fastapi", 700, 4.0), ("litserve", 850, 4.0)):
        measurements += [
            measured(contestant, 0, rate, p50=p50),
            measured(contestant, 0, rate, p50=p50, connections=1),
            measured(contestant, 0, rate / 10, workload="score-png"),
        ]
    return Results(
        {"cores": 2, "settings": {}, "packages": {"numpy": "2.4"}},
        measurements,
        ready={OURS: [3.0, 4.0, 9.0], "empty": [2.0, 3.0, 3.0]},
        memory={"classify": [[250_000_000, 390_000_000]]},
    )


def test_each_bar_is_judged() -> None:
    results = run()
    found = [
        (bar.sign, bar.limit, pytest.approx(bar.value), bar.holds) for bar in bars(results, cells(results.measurements))
    ]
    assert found == [
        (">=", 0.8, 0.85, True),
        (">", 1.0, 850 / 700, True),
        (">", 1.0, 1.0, False),
        ("<=", 2.0, 1.5, True),
        (">=", 0.95, 0.85, False),
        ("<=", 1.5, 4 / 3, True),
        ("<", 400, 390, True),
    ]


def test_a_run_survives_its_file(tmp_path: Path) -> None:
    results = run()
    results.wrong.append("something")
    results.save(tmp_path / "run.json")
    assert Results.load(tmp_path / "run.json") == results


def test_the_page_takes_every_part_once() -> None:
    results = run()
    page = "Before\n<!-- measured: bars -->\noutdated\n<!-- end -->\n\n<!-- measured: table --><!-- end -->\nafter\n"
    filled = fill(page, results)
    assert "outdated" not in filled
    assert "| (b) Quarterturn | defaults | 850 | 0.85 |" in filled
    assert "| light classifier, 16 connections: requests/s over (d) LitServe | > 1.00 | 1.00 | NO |" in filled
    assert filled.startswith("Before\n<!-- measured: bars -->\n")
    assert filled.endswith("<!-- end -->\nafter\n")
    assert fill(filled, results) == filled
    with pytest.raises(KeyError):
        fill("<!-- measured: nothing --><!-- end -->", results)


def test_the_whole_is_every_part() -> None:
    text = render(run())
    assert all(part in text for part in parts(run()).values())
    assert "- cores: 2\n- packages: numpy 2.4\n" in text
    assert "Every answer was right" in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (1234.5, "1234"), (99.96, "100.0"), (12.345, "12.3"), (0.01234, "0.0123"), (-2.5, "-2.50")],
)
def test_digits(value: float, shown: str) -> None:
    assert digits(value) == shown
