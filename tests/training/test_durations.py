from __future__ import annotations

from training.durations import duration


def test_durations_read_well() -> None:
    assert [duration(seconds) for seconds in (3, 100, 4000)] == ["3 s", "2 min", "1 h 07 min"]
