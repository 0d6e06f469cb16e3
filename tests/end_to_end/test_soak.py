"""`make soak` in short: twenty seconds of good, bad, huge, slow and aborted requests against the models that ship."""

from __future__ import annotations

import pytest

from benchmarks.soak.session import soak

pytestmark = pytest.mark.slow

SECONDS = 20
# Twenty seconds are too short for memory to settle: this catches what grows with every request and no more.
GROWTH_LIMIT = 0.5


@pytest.mark.timeout(240)
def test_every_request_is_answered_as_it_must_be_and_the_worker_lives() -> None:
    report = soak(seconds=SECONDS, growth_limit=GROWTH_LIMIT)
    assert report.wrong == [], report.markdown()
    assert report.tallies.keys() == {"good", "large", "bad", "huge", "slow", "aborted"}
    assert all(tally.sent for tally in report.tallies.values())
    assert report.tallies["good"].right == report.tallies["good"].sent > 20
