"""Damaged image files: each is refused or read, none takes long or much, and memory stays. The same files each time."""

from __future__ import annotations

from random import Random

from tests.fuzz import memory
from tests.fuzz.images import MAX_PIXELS, damaged_image, judge, pillow_as_served, seeds
from tests.fuzz.mutations import parts_of, repaired

FILES = 4000
# Sixteen bytes a pixel and the file itself are far less.
MOST_BYTES = 32 * MAX_PIXELS + 32 * 2**20


def test_the_seeds_are_read_whole_and_after_repair() -> None:
    for data in seeds():
        assert judge(data)
        assert judge(repaired(data))
        assert b"".join(parts_of(data)) == data
        assert len(parts_of(data)) > 1


def test_damaged_files_are_read_or_refused_in_bounded_time_and_memory() -> None:
    outcomes = []
    with pillow_as_served():
        for data in seeds():
            judge(data)
        before = memory.resident()
        has_peak = memory.reset_peak()
        for number in range(FILES):
            data = damaged_image(Random(number))
            try:
                outcomes.append(judge(data))
            except Exception as error:
                raise AssertionError(f"file {number}: python -m tests.fuzz --only images --seed {number}") from error
    # Damage that is always seen, or never, tests nothing behind the first check.
    assert 0.1 < sum(outcomes) / FILES < 0.9
    if has_peak:
        assert memory.peak() - before < MOST_BYTES
    assert memory.resident() - before < 32 * 2**20
