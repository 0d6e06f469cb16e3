"""Image fuzzing guided by coverage: ``python -m tests.fuzz.guided CORPUS [OPTIONS]``, with libFuzzer's options.

atheris keeps the files that reach new code of Pillow or of serving.images and damages those further, in turn
with the mutations of this package.
"""

from __future__ import annotations

import sys
from random import Random

import atheris

with atheris.instrument_imports(include=["PIL", "serving.images"]):
    from tests.fuzz.images import judge, pillow_as_served, seeds

from tests.fuzz.mutations import mutated


def _try_one(data: bytes) -> None:
    judge(data)


def _mutator(data: bytes, max_size: int, seed: int) -> bytes:
    random = Random(seed)
    if random.random() < 0.3:
        return bytes(atheris.Mutate(data, max_size))
    return mutated(random, data, seeds())[:max_size]


if __name__ == "__main__":
    with pillow_as_served():
        atheris.Setup(sys.argv, _try_one, custom_mutator=_mutator)
        atheris.Fuzz()
