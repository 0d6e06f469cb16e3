"""Heap: memory that is free goes back to the system, where the C library would keep it for later."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

# After an image whose decoding took so much, free memory is given back.
LARGE_BYTES = 32 * 1024 * 1024


def trim() -> None:
    """Give free memory back: some milliseconds of work, worth it after tens of megabytes. Only glibc needs it."""
    if (give_back := _malloc_trim()) is not None:
        give_back(0)


@cache
def _malloc_trim() -> Callable[[int], object] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # no such function; Windows
        return None
