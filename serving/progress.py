"""Progress bars on standard error, for everything that takes longer than a moment; drawn where that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


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


@contextmanager
def progress_of(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar until the block ends; yields the function that is told how many of how many are done."""
    with progress_bar() as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
