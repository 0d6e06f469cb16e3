"""``make fuzz SECONDS=600``: damaged images and requests for so long, with fresh seeds; status 1 at the first fault.

Half of the time goes to image files, half to requests. With atheris (``pip install -e '.[fuzz]'``) the images are
mutated under its guidance, toward code of Pillow and of serving.images that no file has reached. A fault is
printed with the command that repeats it, or with the file that raised it.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

_GROWTH = 64 * 2**20
_WARM_UP_SHARE = 0.25


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", choices=("images", "requests"))
    parser.add_argument("--seed", type=int, help="try this one case and no other")
    arguments = parser.parse_args()
    kinds = [arguments.only] if arguments.only else ["images", "requests"]
    with tempfile.TemporaryDirectory(prefix="quarterturn-fuzz-") as home:
        os.mkdir(f"{home}/metrics")
        # Before BentoML is imported: it reads these once.
        os.environ |= {
            "BENTOML_HOME": f"{home}/bentoml",
            "BENTOML_DO_NOT_TRACK": "True",
            "OTEL_SDK_DISABLED": "true",
            "PROMETHEUS_MULTIPROC_DIR": f"{home}/metrics",
        }
        for kind in kinds:
            seconds = arguments.seconds / len(kinds)
            if kind == "requests":
                _fuzz_requests(Path(home, "models"), seconds, arguments.seed)
            elif arguments.seed is None and importlib.util.find_spec("atheris"):
                if _fuzz_images_guided(Path(home), seconds):
                    return 1
            else:
                _fuzz_images(seconds, arguments.seed)
    return 0


def _fuzz_images(seconds: float, seed: int | None) -> None:
    from tests.fuzz.images import damaged_image, judge, pillow_as_served

    with pillow_as_served():
        _repeat("images", lambda one: judge(damaged_image(Random(one))), seconds, seed)


def _fuzz_images_guided(home: Path, seconds: float) -> int:
    """Let atheris run in a process of its own, which it ends itself; return its status."""
    from tests.fuzz.images import MAX_SECONDS, seeds

    corpus, faults = home / "corpus", Path(tempfile.mkdtemp(prefix="quarterturn-fuzz-faults-"))
    corpus.mkdir()
    for number, data in enumerate(seeds()):
        (corpus / str(number)).write_bytes(data)
    command = [sys.executable, "-m", "tests.fuzz.guided", str(corpus), f"-artifact_prefix={faults}/"]
    command += [f"-max_total_time={max(1, round(seconds))}", f"-timeout={round(10 * MAX_SECONDS)}"]
    status = subprocess.run([*command, "-rss_limit_mb=1024", "-max_len=20000", "-verbosity=1"], check=False).returncode
    if any(faults.iterdir()):
        print(f"images: the files that raised a fault are in {faults}", file=sys.stderr)
    else:
        faults.rmdir()
    return status


def _fuzz_requests(models: Path, seconds: float, seed: int | None) -> None:
    from tests.fuzz.server import fuzzed_server

    with fuzzed_server(models) as server:

        def try_one(one: int) -> int:
            status = server.try_one(one)
            if one % 20 == 0:
                server.check_good()
            return status

        _repeat("requests", try_one, seconds, seed)
        server.check_good()


def _repeat(kind: str, try_one: Callable[[int], int], seconds: float, seed: int | None) -> None:
    """Try case after case for so many seconds. Raises what a case raised, and AssertionError where memory grows."""
    from tests.fuzz import memory

    first = secrets.randbits(48) if seed is None else seed
    outcomes: Counter[int] = Counter()
    started, before = time.monotonic(), 0
    while seed is None or not outcomes:
        one = first + outcomes.total()
        try:
            outcomes[try_one(one)] += 1
        except BaseException:
            print(f"{kind}: repeat with python -m tests.fuzz --only {kind} --seed {one}", file=sys.stderr)
            raise
        passed = time.monotonic() - started
        if not before and passed > _WARM_UP_SHARE * seconds:
            before = memory.resident()
        if passed > seconds:
            break
    growth = memory.resident() - before if before else 0
    counts = ", ".join(f"{outcome}: {count}" for outcome, count in sorted(outcomes.items()))
    print(f"{kind}: {outcomes.total()} cases from seed {first} in {passed:.0f} s ({counts})")
    print(f"{kind}: memory grew by {growth / 2**20:.1f} MiB after the first quarter")
    assert growth < _GROWTH, f"{kind}: memory grew by {growth / 2**20:.0f} MiB"


if __name__ == "__main__":
    sys.exit(main())
