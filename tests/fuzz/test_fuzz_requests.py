"""Damaged requests to the real service: never a 500, the one error shape, and the next good request is answered."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz import memory
from tests.fuzz.server import fuzzed_server

REQUESTS = 600


def test_damaged_requests_are_answered_or_refused_and_nothing_grows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    statuses: Counter[int] = Counter()
    with fuzzed_server(tmp_path) as server:
        before = 0
        for seed in range(REQUESTS):
            try:
                statuses[server.try_one(seed)] += 1
            except Exception as error:
                raise AssertionError(f"request {seed}: python -m tests.fuzz --only requests --seed {seed}") from error
            if seed % 20 == 0:
                server.check_good()
            if seed == REQUESTS // 4:
                before = memory.resident()
        server.check_good()
        assert memory.resident() - before < 32 * 2**20
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    # Requests that are all refused at the first check would test nothing behind it.
    assert statuses[200] > REQUESTS / 20
    assert {0, 200, 400, 404, 413, 415, 422} <= statuses.keys()
