"""The mixed load: lanes that each send one kind of request in a closed loop, side by side, until the time is over."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import httpx

from benchmarks.soak.expected import Graphs
from benchmarks.soak.report import Tally
from benchmarks.soak.scripts import (
    KINDS,
    TOO_LARGE_REQUEST,
    Kind,
    Script,
    bad_scripts,
    good_scripts,
    huge_scripts,
    large_scripts,
    pieces,
)
from benchmarks.soak.watch import Watch
from benchmarks.soak.wire import Answer, break_off, post

LANES: dict[Kind, int] = {"good": 6, "large": 2, "bad": 2, "huge": 1, "slow": 4, "aborted": 2}
# Seconds between two requests of a lane, so that the good ones have most of the server.
PAUSES: dict[Kind, float] = {"good": 0.0, "large": 1.0, "bad": 0.02, "huge": 0.3, "slow": 0.0, "aborted": 0.05}
NO_ANSWER_SECONDS = 60.0
MOST_TRIES = 50
DRIPS = 15
DRIP_PAUSES = (0.02, 0.2)
CHUNK = 1 << 20


@dataclass
class Mix:
    """Sends the mixed load to the server that ``watch`` watches; counts it, and says what is ``wrong``."""

    watch: Watch
    graphs: Graphs
    seed: int = 0
    tallies: dict[str, Tally] = field(default_factory=lambda: {kind: Tally() for kind in KINDS})
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._good = good_scripts(self.graphs)
        self._scripts: dict[Kind, Sequence[Script]] = {
            "large": large_scripts(self.graphs),
            "bad": bad_scripts(),
            "huge": huge_scripts(),
        }
        self._port = self.watch.server.port
        self._random = random.Random(self.seed)
        self._stop_at = 0.0

    async def run(self, seconds: float) -> None:
        """Send for so many seconds, then let what is under way end; the workers are looked at each half second."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._stop_at = time.monotonic() + seconds
        async with httpx.AsyncClient(timeout=None, limits=limits, trust_env=False) as client:
            send: dict[Kind, Callable[[], Awaitable[None]]] = {
                "good": lambda: self._answered("good", self._pick(self._good), client),
                "large": lambda: self._answered("large", self._pick(self._scripts["large"]), client),
                "bad": lambda: self._answered("bad", self._pick(self._scripts["bad"]), client),
                "huge": lambda: self._huge(client),
                "slow": self._slow,
                "aborted": self._aborted,
            }
            lanes = [self._lane(kind, send[kind]) for kind, count in LANES.items() for _ in range(count)]
            await asyncio.gather(self._look(seconds), *lanes)

    async def _lane(self, kind: Kind, send: Callable[[], Awaitable[None]]) -> None:
        while time.monotonic() < self._stop_at:
            self.tallies[kind].sent += 1
            try:
                async with asyncio.timeout(NO_ANSWER_SECONDS):
                    await send()
            except TimeoutError:
                self.wrong.append(f"{kind}: no answer within {NO_ANSWER_SECONDS:.0f} seconds")
            except (OSError, httpx.HTTPError) as error:
                self.wrong.append(f"{kind}: {type(error).__name__}: {error}")
            await asyncio.sleep(PAUSES[kind])

    async def _look(self, seconds: float) -> None:
        """Take samples; and progress, where somebody sees it."""
        while (left := self._stop_at - time.monotonic()) > 0:
            self.watch.look()
            if sys.stderr.isatty():
                print(f"\r{seconds - left:.0f} of {seconds:.0f} s, {len(self.wrong)} wrong ", end="", file=sys.stderr)
            await asyncio.sleep(min(0.5, left))

    async def _answered(self, kind: Kind, script: Script, client: httpx.AsyncClient) -> None:
        headers = {"Content-Type": script.content_type} if script.content_type else {}
        url = f"{self.watch.server.url}{script.path}"

        async def send() -> Answer:
            answer = await client.post(url, content=script.body, headers=headers)
            return Answer(answer.status_code, answer.headers, answer.content)

        await self._until_taken(kind, script, send)

    async def _huge(self, client: httpx.AsyncClient) -> None:
        """Send what is above a limit; half of the time a body larger than a request may be, announced or not."""
        if self._random.random() < 0.5:
            await self._answered("huge", self._pick(self._scripts["huge"]), client)
            return
        announced = self._random.random() < 0.5
        script = Script(f"66 MiB {'announced' if announced else 'in chunks'}", "/classify", b"", statuses=(413,))
        length = TOO_LARGE_REQUEST if announced else None
        body = [self._good[0].body[:200].ljust(CHUNK, b"\0")] + [bytes(CHUNK)] * (TOO_LARGE_REQUEST // CHUNK - 1)

        async def send() -> Answer | None:
            return await post(self._port, script.path, body, length=length)

        await self._until_taken("huge", script, send)

    async def _slow(self) -> None:
        """Send a good body drop by drop: it is answered as if it had come at once."""
        script = self._pick(self._good)
        pause = self._random.uniform(*DRIP_PAUSES)

        async def send() -> Answer | None:
            drops = pieces(script.body, DRIPS)
            return await post(self._port, script.path, drops, length=len(script.body), pause=pause)

        await self._until_taken("slow", script, send)

    async def _aborted(self) -> None:
        """Break off: somewhere in the body, or after all of it, while the server works."""
        script = self._pick(self._good)
        share = self._random.choice((0.0, self._random.random(), 1.0))
        linger = self._random.choice((0.0, self._random.uniform(0.0, 0.5)))
        sent = int(share * len(script.body))
        await break_off(self._port, script.path, script.body, sent, linger, reset=self._random.random() < 0.5)
        self.tallies["aborted"].right += 1

    async def _until_taken(self, kind: Kind, script: Script, send: Callable[[], Awaitable[Answer | None]]) -> None:
        """Send until the answer is no 503, and judge it."""
        tally = self.tallies[kind]
        for _ in range(MOST_TRIES):
            answer = await send()
            tally.statuses[str(answer.status) if answer else "closed"] += 1
            if answer is None or answer.status != 503:
                break
            wait = answer.headers.get("retry-after", "")
            if not wait.isdigit():
                self.wrong.append(f"{kind}, {script.name}: 503 without Retry-After")
                return
            tally.retried += 1
            await asyncio.sleep(int(wait))
        problem = judge(script, answer)
        if problem:
            self.wrong.append(f"{kind}, {script.name}: {problem}")
        else:
            tally.right += 1

    def _pick(self, scripts: Sequence[Script]) -> Script:
        return self._random.choice(scripts)


def judge(script: Script, answer: Answer | None) -> str | None:
    """Say what is wrong with the answer to a request; None if nothing is.

    No answer, the connection closed, is right only for a body above the limit, of which the server need not read all.
    """
    if answer is None:
        return None if script.statuses == (413,) else "the connection was closed without an answer"
    try:
        content = json.loads(answer.body)
    except ValueError:
        return f"status {answer.status}, and no JSON: {answer.body[:200]!r}"
    if script.expected is not None:
        return script.expected.problem(content) if answer.status == 200 else f"status {answer.status}: {content}"
    if answer.status not in script.statuses:
        return f"status {answer.status}, expected {' or '.join(map(str, script.statuses))}: {str(content)[:200]}"
    error = content.get("error") if isinstance(content, dict) else None
    return (
        None
        if isinstance(error, dict) and {"code", "message"} <= error.keys()
        else f"an error of another shape: {content}"
    )
