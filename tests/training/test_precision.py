"""What a recipe's precision comes to, and how runs of different precision stand in a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.training.runs import make_data_root, make_run
from training.evaluation import evaluate_run
from training.precision import Precision, resolve_precision, trained_precision
from training.report.collect import collect


def test_auto_is_full_precision_without_a_gpu() -> None:
    assert [resolve_precision(named) for named in ("auto", "bf16-mixed", "16-mixed")] == [
        "32-true",
        "bf16-mixed",
        "16-mixed",
    ]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"precision": "16-mixed", "device": "NVIDIA H100"}, "16-mixed"),
        ({"device": "NVIDIA H100"}, "bf16-mixed"),  # of a version that recorded none
        ({"device": "CPU (x86_64), 2 threads"}, "32-true"),
        ({}, "32-true"),  # no step was made yet: what it means here
    ],
)
def test_a_record_says_what_auto_was(record: dict[str, Any], expected: Precision) -> None:
    assert trained_precision("auto", record) == expected


def test_a_report_tells_precisions_apart_and_not_evaluations(tmp_path: Path) -> None:
    """At scales for CPUs full precision is the usual one, whether 'auto' or named; another is a row of its own."""
    root = make_data_root(tmp_path / "data")
    for seed, precision in enumerate(("auto", "32-true", "bf16-mixed")):
        settings = ["evaluation.ood=[]", f"evaluation.limit={6 + seed}", f"trainer.precision={precision}"]
        run = make_run(tmp_path / "runs" / precision, root, "cifar10-baseline", *settings)
        run.write_json("environment.json", {**run.environment(), "seed": seed})
        evaluate_run(run, root, device="cpu")
    systems = collect(tmp_path / "runs").of("cifar10-baseline", "smoke")
    assert [(system.variant, system.seeds) for system in systems] == [
        ((), [0, 1]),
        (('trainer.precision="bf16-mixed"',), [2]),
    ]
