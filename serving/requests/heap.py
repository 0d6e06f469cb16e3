"""Heap: memory that is free goes back to the system, where glibc would keep it for later; others need no help."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

# After an image whose decoding took so much, free memory is given back.
LARGE_BYTES = 32 * 1024 * 1024
# A block of this size or more is a mapping of its own. Pillow has an image of some megapixels in blocks of 16 MiB; what
# comes with every request, an image of a megapixel for one, is below.
APART_BYTES = 8 * 1024 * 1024
# How much the heap keeps free at its end: twice as much, glibc's own rule. It would be 128 KiB, and every image of a
# megapixel would ask the system for its pages anew.
KEPT_BYTES = 2 * APART_BYTES
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1


def keep_large_blocks_apart() -> None:
    """Let large blocks go back to the system one by one, when each is freed; for this process, from now on.

    By itself glibc does so with the first one only, and takes the next of that size from the heap.
    """
    if (set_option := _of_libc("mallopt")) is not None:
        set_option(_M_MMAP_THRESHOLD, APART_BYTES)
        set_option(_M_TRIM_THRESHOLD, KEPT_BYTES)


def trim() -> None:
    """Give free memory back: some milliseconds of work, worth it after tens of megabytes."""
    if (give_back := _of_libc("malloc_trim")) is not None:
        give_back(0)


@cache
def _of_libc(name: str) -> Callable[..., object] | None:
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):  # Windows
        return None
