from __future__ import annotations

import pytest

from serving.progress import progress_of
from tests.training.terminals import drawn_on_a_terminal


def score_some() -> None:
    with progress_of("scoring") as progress:
        progress(3, 40)
        progress(8, 40)


def test_a_terminal_shows_how_many_of_how_many_are_done() -> None:
    drawn = drawn_on_a_terminal(score_some)
    assert "scoring" in drawn
    assert "8/40" in drawn


def test_nothing_is_drawn_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    score_some()
    assert capsys.readouterr().err == ""
