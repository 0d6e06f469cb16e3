from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.requests import Request

from serving.requests import given_up
from serving.requests.given_up import ClientGoneError, Patience


class Client:
    """A client that is there until it ``has_gone``; ``asked``: how often it was looked for."""

    def __init__(self) -> None:
        self.has_gone = False
        self.asked = 0
        self.request = Request({"type": "http"}, self._receive)

    async def _receive(self) -> dict[str, object]:
        self.asked += 1
        if not self.has_gone:
            await asyncio.sleep(60)
        return {"type": "http.disconnect"}


async def wait(
    patience: Patience, seconds: float, client: Client | None = None, *, is_read: bool = True
) -> tuple[str, float]:
    """Wait so long, and say how that ended and after how many seconds."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        with patience.waiting((client or Client()).request) as waiting:
            waiting.is_read = is_read
            await asyncio.sleep(seconds)
        end = "done"
    except (TimeoutError, ClientGoneError) as error:
        end = type(error).__name__
    return end, loop.time() - began


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 30))


def test_a_request_has_so_many_seconds() -> None:
    async def work() -> None:
        patience = Patience(0.2)
        done, late, unread = await asyncio.gather(
            wait(patience, 0.05), wait(patience, 20), wait(patience, 20, is_read=False)
        )
        assert done[0] == "done"
        for end, seconds in (late, unread):
            assert end == "TimeoutError"
            assert 0.19 <= seconds < 5

    run(work)


def test_each_has_its_own_seconds_from_its_own_beginning() -> None:
    async def later(patience: Patience) -> tuple[str, float]:
        await asyncio.sleep(0.15)
        return await wait(patience, 20)

    async def work() -> None:
        patience = Patience(0.3)
        for end, seconds in await asyncio.gather(wait(patience, 20), later(patience), wait(patience, 20)):
            assert end == "TimeoutError"
            assert 0.29 <= seconds < 5
        assert await wait(patience, 0.01) < ("done", 5)
        assert (await wait(patience, 20))[0] == "TimeoutError"

    run(work)


def test_a_request_whose_client_has_gone_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given_up, "LOOK_SECONDS", 0.05)
    gone, there, unread = Client(), Client(), Client()
    gone.has_gone = unread.has_gone = True

    async def work() -> None:
        patience = Patience(60)
        ends = await asyncio.gather(
            wait(patience, 20, gone), wait(patience, 0.4, there), wait(patience, 0.4, unread, is_read=False)
        )
        assert [end for end, _ in ends] == ["ClientGoneError", "done", "done"]
        assert ends[0][1] < 5

    run(work)
    assert there.asked > 1
    assert unread.asked == 0  # to look would take a piece of its body


def test_who_cancels_for_another_reason_is_heard() -> None:
    async def work() -> None:
        patience = Patience(0.1)
        cancelled = asyncio.create_task(wait(patience, 20))
        await asyncio.sleep(0.01)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        both = asyncio.create_task(wait(patience, 20))
        both.add_done_callback(lambda _: None)
        await asyncio.sleep(0.01)
        one = next(iter(patience._waiting))
        one.give_up(TimeoutError())
        both.cancel()
        with pytest.raises(asyncio.CancelledError):
            await both

    run(work)


def test_a_failure_of_the_work_goes_through() -> None:
    async def work() -> None:
        patience = Patience(60)
        with pytest.raises(ValueError, match="bad"), patience.waiting(Client().request):
            raise ValueError("bad")
        assert not patience._waiting

    run(work)
