from __future__ import annotations

import asyncio
import threading

import pytest

from serving.requests.decoding_room import UNCOUNTED_BYTES, DecodingRoom

MEGABYTES = 10**6


def test_small_images_are_not_counted() -> None:
    room = DecodingRoom(10 * MEGABYTES)
    assert room.try_take(10 * MEGABYTES)
    assert all(room.try_take(UNCOUNTED_BYTES) for _ in range(100))
    assert not room.try_take(UNCOUNTED_BYTES + 1)
    room.give_back(UNCOUNTED_BYTES)
    assert not room.try_take(UNCOUNTED_BYTES + 1)
    room.give_back(10 * MEGABYTES)
    assert room.try_take(UNCOUNTED_BYTES + 1)


def test_one_larger_than_the_room_is_let_in_alone() -> None:
    room = DecodingRoom(10 * MEGABYTES)
    assert room.try_take(50 * MEGABYTES)
    assert not room.try_take(5 * MEGABYTES)
    room.give_back(50 * MEGABYTES)
    assert room.try_take(5 * MEGABYTES)
    assert not room.try_take(50 * MEGABYTES)


def test_who_waits_is_let_in_in_turn_and_not_passed() -> None:
    async def run() -> list[int]:
        room, came = DecodingRoom(10 * MEGABYTES), []

        async def enter(size: int) -> None:
            await room.take(size * MEGABYTES)
            came.append(size)

        assert room.try_take(6 * MEGABYTES)
        tasks = [asyncio.create_task(enter(size)) for size in (40, 5, 4)]
        await asyncio.sleep(0)
        assert not room.try_take(4_500_000)  # it would fit, and another is waiting
        assert came == []
        for size in (6, 40, 5):
            thread = threading.Thread(target=room.give_back, args=(size * MEGABYTES,))
            thread.start()
            thread.join()
            await asyncio.sleep(0.01)
        await asyncio.gather(*tasks)
        return came

    assert asyncio.run(run()) == [40, 5, 4]


@pytest.mark.parametrize("granted", [False, True])
def test_who_gives_up_takes_nothing(granted: bool) -> None:
    async def run() -> None:
        room = DecodingRoom(10 * MEGABYTES)
        assert room.try_take(10 * MEGABYTES)
        waiting = asyncio.create_task(room.take(9 * MEGABYTES))
        await asyncio.sleep(0)
        if granted:
            room.give_back(10 * MEGABYTES)  # its turn, of which it has not heard yet
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        if not granted:
            room.give_back(10 * MEGABYTES)
        assert room.try_take(10 * MEGABYTES)

    asyncio.run(run())


def test_a_thread_waits_in_turn_and_gives_back_what_it_took() -> None:
    room, entered, leave = DecodingRoom(10 * MEGABYTES), threading.Event(), threading.Event()

    def decode() -> None:
        with room.room_for(8 * MEGABYTES):
            entered.set()
            leave.wait(30)

    with room.room_for(8 * MEGABYTES):
        thread = threading.Thread(target=decode)
        thread.start()
        assert not entered.wait(0.05)
    assert entered.wait(30)
    assert not room.try_take(8 * MEGABYTES)
    leave.set()
    thread.join()
    with pytest.raises(MemoryError), room.room_for(8 * MEGABYTES):
        raise MemoryError
    assert room.try_take(10 * MEGABYTES)
