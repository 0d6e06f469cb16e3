"""Decoding: uploads to arrays, off the event loop unless they are so small that a thread would cost more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from serving.errors import ApiError
from serving.images.fitting import Fitted, Fitting
from serving.images.quick_files import is_quick
from serving.requests.decoding_room import DecodingRoom
from serving.requests.image_of_upload import fit_opened, fit_upload, open_upload
from serving.requests.uploads import Upload

# What is decoded on the event loop: so many files of so many bytes in all, of so many pixels each, and of quick parts
# only. It takes about 0.1 ms an image.
SMALL_FILES = 8
SMALL_BYTES = 16_384
SMALL_PIXELS = 64 * 64


class Decoder:
    """Decodes and fits uploads in threads of its own.

    ``max_pixels`` bounds an image, judged from its header; ``max_bytes`` the memory of those decoded at a time.
    ``at_work``: images that are in the threads, or wait for one.
    """

    def __init__(self, threads: int, max_pixels: int, max_bytes: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._side_by_side = threads
        self._max_pixels = max_pixels
        self._room = DecodingRoom(max_bytes)
        self.at_work = 0

    async def fit(self, uploads: Sequence[Upload], fittings: Iterable[Fitting]) -> list[Fitted | ApiError]:
        """Return each upload at every size wanted, or the error that says what is wrong with it, in their order.

        A request has no more images at work than there are threads: one of many images leaves room for others.
        """
        wanted = set(fittings)
        if _are_small(uploads):
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
        # Requests that have come together are read, decoded and offered together, step by step: code that has just run
        # costs a fifth less (docs/performance.md).
        await asyncio.sleep(0)
        outcome = fit_upload(upload, index, fittings, min(SMALL_PIXELS, self._max_pixels))
        if isinstance(outcome, ApiError) and outcome.code == "image_too_large" and upload.error is None:
            return await self._in_thread(upload, index, fittings)  # of few bytes and many pixels
        return outcome

    async def _in_thread(self, upload: Upload, index: int, fittings: set[Fitting]) -> Fitted | ApiError:
        self.at_work += 1
        try:
            return await self._fitted(upload, index, fittings)
        finally:
            self.at_work -= 1

    async def _fitted(self, upload: Upload, index: int, fittings: set[Fitting]) -> Fitted | ApiError:
        loop = asyncio.get_running_loop()
        outcome = await loop.run_in_executor(self._threads, self._fit_if_room, upload, index, fittings)
        if not isinstance(outcome, int):
            return outcome
        size = outcome
        await self._room.take(size)
        fitted = self._threads.submit(fit_upload, upload, index, fittings, self._max_pixels)
        # Also where the request is given up before the thread has begun; one that has begun goes on.
        fitted.add_done_callback(lambda _: self._room.give_back(size))
        return await asyncio.wrap_future(fitted)

    def _fit_if_room(self, upload: Upload, index: int, fittings: set[Fitting]) -> Fitted | ApiError | int:
        """Decode and fit an upload; or, where there is no room for that, return how many bytes it takes."""
        opened = open_upload(upload, index, self._max_pixels)
        if isinstance(opened, ApiError):
            return opened
        size = opened.decoding_bytes
        if not self._room.try_take(size):
            return size
        try:
            return fit_opened(opened, upload, index, fittings)
        finally:
            self._room.give_back(size)


def _are_small(uploads: Sequence[Upload]) -> bool:
    return (
        len(uploads) <= SMALL_FILES
        and sum(len(upload.data) for upload in uploads) <= SMALL_BYTES
        and all(is_quick(upload.data) or upload.error is not None for upload in uploads)
    )
