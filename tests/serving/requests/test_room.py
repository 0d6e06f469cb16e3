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


def test_images_are_held_with_the_body_they_came_in() -> None:
    room = Room(max_in_flight=9, max_held_bytes=100, max_reading=9)
    one, two = Body(room, pieces(10)), Body(room, pieces(20))
    assert received(one) + received(two) == 30
    one.hold_images(50)
    with pytest.raises(ApiError) as refused:
        two.hold_images(21)
    assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
    two.hold_images(20)
    assert room.held_bytes == 100
    one.release()
    assert room.held_bytes == 40
    two.release()
    assert room.held_bytes == 0


def test_images_too_large_for_an_empty_server_are_not_asked_for_again() -> None:
    room = Room(max_in_flight=9, max_held_bytes=100, max_reading=9)
    body = Body(room, pieces(10))
    assert received(body) == 10
    with pytest.raises(ApiError, match=r"take 91 bytes .* their files 10, .* holds 100 at most; send fewer") as refused:
        body.hold_images(91)
    assert (refused.value.status, refused.value.code) == (413, "too_many_images")
    assert room.held_bytes == 10
    body.hold_images(90)


def test_images_may_take_the_last_room_of_the_last_request() -> None:
    room = Room(max_in_flight=1, max_held_bytes=100, max_reading=9)
    body = Body(room, pieces(10))
    assert received(body) == 10
    with room.at_work():
        body.hold_images(90)
