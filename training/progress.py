"""Progress bars and notes on standard error, for everything that takes longer than a moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.markup import escape

from serving.progress import progress_bar

__all__ = ["note", "progress_bar", "track"]

T = TypeVar("T")


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield ``items`` while a bar shows how many of ``total`` are done; ``description`` is plain text."""
    with progress_bar() as progress:
        yield from progress.track(items, total=total, description=escape(description))


def note(text: str) -> None:
    """Print a line of plain text on standard error."""
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)
