"""Lengths of time in words."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return '50 s', '12 min' or '3 h 20 min'."""
    if seconds < 90:
        return f"{max(0.0, seconds):.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
