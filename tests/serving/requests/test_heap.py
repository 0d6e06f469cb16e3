from __future__ import annotations

import sys

import pytest

from tests.fuzz.memory import printed_by

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="other systems give memory back by themselves"
)

# The last block is kept, so that the heap cannot shrink from its end.
TRIM = """
from serving.requests.heap import trim
from tests.fuzz import memory
blocks = [bytes(100_000) for _ in range(1000)]
last = blocks[-1]
before = memory.resident()
del blocks
freed = before - memory.resident()
trim()
print(before - memory.resident() - freed)
"""

# The first large block freed is what makes glibc take the next ones from the heap.
LARGE_BLOCKS = """
import sys
from serving.requests.heap import keep_large_blocks_apart
from tests.fuzz import memory
if sys.argv[1] == "apart":
    keep_large_blocks_apart()
bytearray(b"x") * 20_000_000
blocks = [bytearray(b"x") * size for _ in range(4) for size in (16_000_000, 100_000)]
before = memory.resident()
del blocks[::2]
print(before - memory.resident())
"""

# A page that went back to the system costs a fault when it comes anew.
MIDDLING_BLOCKS = """
from resource import RUSAGE_SELF, getrusage
from serving.requests.heap import keep_large_blocks_apart
keep_large_blocks_apart()
bytearray(b"x") * 4_000_000
before = getrusage(RUSAGE_SELF).ru_minflt
for _ in range(50):
    bytearray(b"x") * 4_000_000
print(getrusage(RUSAGE_SELF).ru_minflt - before)
"""


def test_free_memory_goes_back_to_the_system() -> None:
    [freed] = printed_by(TRIM)
    assert freed > 50_000_000


def test_large_blocks_go_back_one_by_one() -> None:
    [apart], [as_they_come] = (printed_by(LARGE_BLOCKS, kept) for kept in ("apart", "as they come"))
    assert apart > 60_000_000
    assert as_they_come < 20_000_000  # else it needs no help of ours


def test_what_is_not_large_is_kept_for_the_next() -> None:
    [faults] = printed_by(MIDDLING_BLOCKS)
    assert faults < 5000  # each of fifty blocks has a thousand pages
