"""The counted load: so many good requests through wrk, as fast as they are answered, while memory is watched."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from benchmarks.multipart import CONTENT_TYPE, form
from benchmarks.service.load import run_wrk
from benchmarks.service.workloads import image_file
from benchmarks.soak.report import Tally
from benchmarks.soak.watch import Watch

PATHS = ("/classify", "/anomaly_score")
CONNECTIONS = 16
CHUNK_SECONDS = 3


@dataclass
class Counted:
    """Sends 32 x 32 PNGs to the server that ``watch`` watches, over 16 connections: three seconds to each path in turn.

    The watch's samples are at numbers of requests answered, and taken after each turn of all paths.
    """

    watch: Watch
    tally: Tally = field(default_factory=Tally)
    wrong: list[str] = field(default_factory=list)

    def run(self, requests: int) -> None:
        """Send until so many requests have been answered well, or one has failed."""
        body = form([image_file("png")])
        self.watch.look(at=0)
        while self.tally.right < requests and not self.wrong:
            for path in PATHS:
                self._send(path, body)
            self.watch.look(at=self.tally.right)
            if sys.stderr.isatty():
                print(f"\r{self.tally.right} of {requests} requests ", end="", file=sys.stderr)

    def _send(self, path: str, body: bytes) -> None:
        load = run_wrk(self.watch.server.url + path, body, CONTENT_TYPE, CONNECTIONS, CHUNK_SECONDS)
        self.tally.sent += load.answered + load.failed
        self.tally.right += load.answered
        self.tally.statuses["2xx"] += load.answered
        if load.failed:
            self.wrong.append(f"{load.failed} requests to {path} failed")
        if load.answered == 0:
            self.wrong.append(f"nothing was answered at {path}")
