"""Progress bars and notes: on standard error alone, and bars only for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.training.terminals import drawn_on_a_terminal
from training.progress import note, track


def test_without_a_terminal_no_bar_is_drawn(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(track(iter("abc"), "reading", 3)) == ["a", "b", "c"]
    assert capfd.readouterr() == ("", "")


def test_on_a_terminal_the_bar_counts() -> None:
    shown = drawn_on_a_terminal(lambda: list(track(range(3), "reading photos", 3)).clear())
    assert "reading photos" in shown
    assert "3/3" in shown


def test_a_description_is_plain_text() -> None:
    shown = drawn_on_a_terminal(lambda: list(track(range(3), "reading [red]photos[/x]", 3)).clear())
    assert "reading [red]photos[/x]" in shown


def test_items_come_one_at_a_time() -> None:
    asked: list[int] = []

    def items() -> Iterator[int]:
        for index in range(3):
            asked.append(index)
            yield index

    tracked = track(items(), "reading", 3)
    assert next(tracked) == 0
    assert asked == [0]
    assert list(tracked) == [1, 2]


def test_a_note_is_one_line_of_plain_text_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    text = "left out: [bold]a.png[/bold]: " + 100 * "long "
    note(text)
    assert capfd.readouterr() == ("", text + "\n")
