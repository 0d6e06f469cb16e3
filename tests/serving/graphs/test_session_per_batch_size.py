"""Sessions by batch size: which run goes to which, how many there are, and threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.graphs.session_per_batch_size import SESSIONS, SessionPerBatchSize


class Recorded:
    """A session that answers with its number and keeps the lengths of what it ran."""

    def __init__(self, number: int, ran: list[tuple[int, int]]) -> None:
        self.number = number
        self._ran = ran

    def run(self, names: object, feeds: dict[str, NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        [images] = feeds.values()
        self._ran.append((self.number, len(images)))
        return [np.full(len(images), self.number, np.float32)]

    def get_providers(self) -> list[str]:
        return ["GPU"]


class Opened:
    """Opens sessions and numbers them; the first is 0."""

    def __init__(self) -> None:
        self.ran: list[tuple[int, int]] = []
        self.count = 0

    def __call__(self) -> Any:
        self.count += 1
        return Recorded(self.count, self.ran)


@pytest.fixture
def opened() -> Opened:
    return Opened()


@pytest.fixture
def session(opened: Opened) -> SessionPerBatchSize:
    return SessionPerBatchSize(Recorded(0, opened.ran), opened)


def run(session: SessionPerBatchSize, size: int) -> int:
    [numbers] = session.run(None, {"images": np.zeros((size, 1), np.uint8)})
    assert numbers.shape == (size,)
    return int(numbers[0])


def test_a_session_sees_one_batch_size(session: SessionPerBatchSize, opened: Opened) -> None:
    assert [run(session, size) for size in (4, 1, 4, 2, 1, 2)] == [0, 1, 0, 2, 1, 2]
    assert opened.count == 2


def test_of_too_many_sizes_the_one_that_was_not_run_for_longest_goes(
    session: SessionPerBatchSize, opened: Opened
) -> None:
    for size in range(1, SESSIONS + 1):
        run(session, size)
    run(session, 1)
    assert run(session, 100) == SESSIONS  # in the place of size 2
    assert run(session, 1) == 0
    assert run(session, 3) == 2
    assert run(session, 2) == SESSIONS + 1
    assert opened.count == SESSIONS + 1


def test_threads_share_the_sessions(session: SessionPerBatchSize, opened: Opened) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: run(session, 1 + number % 4), range(200)))
    assert opened.count == 3
    assert len({number for number, _ in opened.ran}) == 4
    assert len(set(opened.ran)) == 4


def test_all_else_is_as_of_one_session(session: SessionPerBatchSize) -> None:
    assert session.get_providers() == ["GPU"]
    with pytest.raises(AttributeError):
        _ = session.what_no_session_has
