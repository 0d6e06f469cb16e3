"""Progress bars and notes on standard error, for everything that takes longer than a moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")


def progress_bar(*columns: str) -> Progress:
    """Return a progress bar with a description, a bar, a count, the time left, and ``columns`` (rich markup).

    It draws nothing where standard error is not a terminal.
    """
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *(TextColumn(column) for column in columns),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield ``items`` while a bar shows how many of ``total`` are done."""
    with progress_bar() as progress:
        yield from progress.track(items, total=total, description=description)


def note(text: str) -> None:
    """Print a line of plain text on standard error."""
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)
