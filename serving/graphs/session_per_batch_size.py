"""A session of its own for each batch size, for graphs on a GPU.

On CUDA, ONNX Runtime keeps the plans of its convolutions for one shape of their input and builds them anew when a run
has another batch size: for 36 views of a WRN 16-4 in fp16 that took 35 ms on an H200, where a run takes 2 to 13
(docs/performance.md). A server's runs change their size all the time. A session that sees one size keeps its plans.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A server runs 1, 2, 4, ... 64 images; a last run of some other number of images makes the eighth.
SESSIONS = 8


class SessionPerBatchSize:
    """Sessions of one graph, at most ``SESSIONS``, each for runs of one batch size; to be used as one of them is.

    ``open_one`` opens a session and is called for every size when it first runs; ``first``, opened already, takes the
    first. Of more sizes the one that was not run for longest goes. ``run`` may be called from several threads at once.
    """

    def __init__(self, first: Any, open_one: Callable[[], Any]) -> None:
        self._first = first
        self._open_one = open_one
        self._by_size: OrderedDict[int, Any] = OrderedDict()
        self._choosing = threading.Lock()

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Run ``feeds``, arrays of one length, as onnxruntime.InferenceSession.run does, whose errors pass through."""
        [size] = {len(array) for array in feeds.values()}
        outputs: list[NDArray[np.float32]] = self._session(size).run(names, feeds)
        return outputs

    def __getattr__(self, name: str) -> Any:
        """Answer all else (get_providers, get_inputs, ...) as the first session does: they are alike."""
        return getattr(self._first, name)

    def _session(self, size: int) -> Any:
        with self._choosing:
            session = self._by_size.pop(size, None)
            if session is None:
                session = self._open_one() if self._by_size else self._first
                if len(self._by_size) == SESSIONS:
                    self._by_size.popitem(last=False)
            self._by_size[size] = session
            return session
