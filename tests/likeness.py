"""Comparing JSON answers whose numbers may differ in the last digits from machine to machine."""

from __future__ import annotations

import pytest


def assert_like(given: object, shown: object, where: str = "answer") -> None:
    """Assert that ``given`` is ``shown``: the same keys, texts and verdicts, floats equal to about three digits."""
    if isinstance(shown, dict):
        assert isinstance(given, dict), where
        assert given.keys() == shown.keys(), where
        for key, value in shown.items():
            assert_like(given[key], value, f"{where}.{key}")
    elif isinstance(shown, list):
        assert isinstance(given, list), where
        assert len(given) == len(shown), where
        for index, (one, other) in enumerate(zip(given, shown, strict=True)):
            assert_like(one, other, f"{where}[{index}]")
    elif isinstance(shown, float):
        assert given == pytest.approx(shown, rel=2e-3, abs=2e-4), where
    else:
        assert given == shown, where
