"""A session whose threads have a core each, for a run that has all the cores.

Left to itself Linux wakes the threads of a run where it likes: two of them on one core, while the other stands idle,
for as long as requests come in the same way. With a core each they can also spin while they wait for each other, which
saves a wake-up at every operator; two spinning on one core would wait for each other's slices of time. On two cores
requests one at a time were 4 to 27 % more a second so (docs/performance-log.md).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class SessionOnOwnCores:
    """A session of as many threads as there are ``cores``; to be used as it is, by one run at a time.

    Its own threads are on the last ones (``session_options``); who runs it is on the first meanwhile.
    """

    def __init__(self, session: Any, cores: Sequence[int]) -> None:
        self._session = session
        self._core = {cores[0]}
        self._all = os.sched_getaffinity(0)

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Run as onnxruntime.InferenceSession.run does, whose errors pass through."""
        with contextlib.suppress(OSError):  # the cores that this process may use have changed
            os.sched_setaffinity(0, self._core)
        try:
            outputs: list[NDArray[np.float32]] = self._session.run(names, feeds)
            return outputs
        finally:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, self._all)

    def __getattr__(self, name: str) -> Any:
        """Answer all else (get_providers, get_inputs, ...) as the session does."""
        return getattr(self._session, name)


def session_options(cores: Sequence[int]) -> dict[str, str]:
    """Return what a session is opened with whose threads, all but the caller's, are to be on the last of ``cores``."""
    return {
        "session.intra_op_thread_affinities": ";".join(str(core + 1) for core in cores[1:]),
        "session.intra_op.allow_spinning": "1",
        "session.force_spinning_stop": "1",  # with the run
    }


def own_cores(threads: int, available: int) -> list[int]:
    """Return a core for each of so many threads; none where the system cannot say, or leaves it only part of each.

    ``available``: how many cores the process may use. Where a container's limit makes that fewer than there are, all
    containers of the machine would take the same ones.
    """
    if not hasattr(os, "sched_setaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    return cores[:threads] if len(cores) == available and 1 < threads <= available else []
