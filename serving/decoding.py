"""Decoding: uploads to arrays, off the event loop unless they are so small that a thread would cost more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from serving.errors import ApiError
from serving.inference import Fitted, fit_upload
from serving.manifest import Fitting
from serving.uploads import Upload

# What is decoded on the event loop: files of so many bytes in all, of so many pixels each. It takes about 0.1 ms.
SMALL_BYTES = 16_384
SMALL_PIXELS = 64 * 64


class Decoder:
    """Decodes and fits uploads in threads of its own. ``max_pixels`` bounds an image, judged from its header."""

    def __init__(self, threads: int, max_pixels: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._side_by_side = threads
        self._max_pixels = max_pixels

    async def fit(self, uploads: Sequence[Upload], fittings: Iterable[Fitting]) -> list[Fitted | ApiError]:
        """Return each upload at every size wanted, or the error that says what is wrong with it, in their order.

        A request has no more images at work than there are threads: one of many images leaves room for others.
        """
        wanted = set(fittings)
        if sum(len(upload.data) for upload in uploads) <= SMALL_BYTES:
            return [await self._fit_small(upload, index, wanted) for index, upload in enumerate(uploads)]
        outcomes: list[Fitted | ApiError] = []
        for start in range(0, len(uploads), self._side_by_side):
            some = uploads[start : start + self._side_by_side]
            outcomes += await asyncio.gather(
                *(self._in_thread(upload, index, wanted) for index, upload in enumerate(some, start))
            )
        return outcomes

    def close(self) -> None:
        """Let the threads end; what they decode finishes first."""
        self._threads.shutdown()

    async def _fit_small(self, upload: Upload, index: int, fittings: set[Fitting]) -> Fitted | ApiError:
        outcome = fit_upload(upload, index, fittings, min(SMALL_PIXELS, self._max_pixels))
        if isinstance(outcome, ApiError) and outcome.code == "image_too_large" and upload.error is None:
            return await self._in_thread(upload, index, fittings)  # of few bytes and many pixels
        return outcome

    async def _in_thread(self, upload: Upload, index: int, fittings: set[Fitting]) -> Fitted | ApiError:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, fit_upload, upload, index, fittings, self._max_pixels)
