from __future__ import annotations

import subprocess
import sys

import pytest

# The last block is kept, so that the heap cannot shrink from its end.
PROGRAM = """
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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems give memory back by themselves")
def test_free_memory_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 50_000_000
