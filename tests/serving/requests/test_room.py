from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from serving.errors import ApiError
from serving.requests.room import Body, Room


async def pieces(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield bytes(size)


def received(body: Body) -> int:
    async def count() -> int:
        return sum([len(chunk) async for chunk in body.chunks()])

    return asyncio.run(count())


def test_so_many_requests_are_worked_on() -> None:
    room = Room(max_in_flight=2, max_held_bytes=10, max_reading=9)
    with room.at_work(), room.at_work():
        with pytest.raises(ApiError) as refused, room.at_work():
            pytest.fail("there was room for a third")
        assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
    with room.at_work():
        room.check()


def test_work_that_fails_leaves_its_place() -> None:
    room = Room(1, 10, 9)
    for _ in range(3):
        with pytest.raises(ValueError, match="bad"), room.at_work():
            raise ValueError("bad")
    room.check()


def test_bytes_are_held_until_they_are_released() -> None:
    room = Room(1, 100, 9)
    one, two, three = (Body(room, pieces(30, 30)) for _ in range(3))
    assert received(one) == 60
    assert one.is_complete
    with pytest.raises(ApiError) as refused:
        received(two)  # 120 with its second piece
    assert refused.value.status == 503
    assert not two.is_complete
    two.release()
    room.check()
    one.release()
    assert received(three) == 60
    assert (room.requests, room.held_bytes) == (1, 60)


def test_so_many_requests_are_read() -> None:
    room = Room(max_in_flight=5, max_held_bytes=10, max_reading=2)
    first, _ = Body(room, pieces()), Body(room, pieces())
    room.admit()
    third = Body(room, pieces())
    with pytest.raises(ApiError) as refused:
        room.admit()
    assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
    with room.at_work():  # one of them is read, and worked on now
        room.admit()
    third.release()
    room.admit()
    first.release()
    assert room.requests == 1
