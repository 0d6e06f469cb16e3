"""The service that is fuzzed: tiny graphs behind a real socket in this process, and the good request to ask between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from PIL import Image

from tests.fuzz.images import seeds
from tests.fuzz.requests import LIMITS, Case, ask, damaged_request, judge
from tests.graphs import solid, write_graph
from tests.multipart import body, part
from tests.pictures import encoded
from tests.serving.local_service import local_service

IMAGES = [*seeds(), encoded(Image.new("L", (400, 300))), b"", b"no image", b"--xYzZy\r\n", bytes(60_000)]
_GOOD = Case("/classify", body(part("images", encoded(Image.fromarray(solid(255))), "white.png")))


@dataclass
class Fuzzed:
    """The address of the server, and what it answers to the good request."""

    url: str
    expected: bytes

    def try_one(self, seed: int) -> int:
        """Send the damaged request of a seed; return the status of its answer, 0 for none."""
        return judge(self.url, damaged_request(Random(seed), IMAGES))

    def check_good(self) -> None:
        """Ask the good request; its answer must be that of the beginning."""
        answer = ask(self.url, _GOOD)
        assert (answer.status, answer.content) == (200, self.expected)


@contextmanager
def fuzzed_server(folder: Path) -> Iterator[Fuzzed]:
    """Serve two tiny graphs from ``folder`` with narrow limits."""
    write_graph(folder, "colours")
    write_graph(folder, "views", formula="transformation")
    with local_service(folder, **LIMITS) as url:
        yield Fuzzed(url, ask(url, _GOOD).content)
