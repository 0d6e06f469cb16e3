"""Run slots: the threads that run graphs, so many at a time, and the event loop, which takes one's place under load.

On two cores a loop beside two run threads is one too many: it drives runs out of the processor, and a run that has
ended waits for the interpreter's lock while the core stands idle. So while more waits than the threads have in hand,
the loop does all that has come up for it and then some runs itself, in place of a thread (docs/decisions/0023).

Answers go back to requests a few at a time while more waits to be run: each turn of the loop is interpreted code that
runs have driven out of the processor's caches, and costs two or three times what it costs warm. None is held where a
thread has nothing to run, nor for a run of more than QUICK_SECONDS.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serving.graphs.run_queue import Outputs, Part, RunQueue

# So many answers are delivered together, while as many images wait for a run that is as quick as this.
ANSWERS_TOGETHER = 4
QUICK_SECONDS = 0.05
# The loop does no run that is likely to last longer.
LOOP_SECONDS = 0.025
# It does runs in a row, and nothing else, until so many answers of its own and of threads are there, or for so long.
ANSWERS_OF_ROW = 8
ROW_SECONDS = 0.06
# After so many looks in a row at which there is nothing for it to run, it gives its place back.
LOOKS_IN_VAIN = 8


def no_decoding() -> int:
    """Return how many images are decoded where nothing is."""
    return 0


class RunSlots:
    """Runs graphs, ``slots`` runs at a time, of all graphs together, in as many threads.

    A thread that is done takes what waits next by itself: between two runs it does not wait for the event loop.
    ``loop_runs``: the loop that offers takes the place of a thread once a full batch waits for every slot, and gives it
    back when that has not been so for a while, or no other thread is at work. ``decoding`` says how many images other
    threads decode, or are to: where these take half of the cores or more, no run has all of them.
    """

    def __init__(self, slots: int, *, loop_runs: bool = False, decoding: Callable[[], int] = no_decoding) -> None:
        self._slots = slots
        self._loop_runs = loop_runs
        self._decoding = decoding
        self._changed = threading.Condition()
        self._graphs: deque[RunQueue] = deque()  # those with something to run, in turn
        self._runs = 0  # under way in threads
        self._large_runs = 0  # of these, runs of large graphs
        self._light_alone = 0  # and of others that have all the cores
        self._loop: asyncio.AbstractEventLoop | None = None  # the one that has the place of a thread
        self._turn_is_due = False  # on that loop, in whose thread alone it is set
        self._is_in_row = False  # that loop, which at the end of its row takes what threads have ended
        self._looks_in_vain = 0
        self._offers = 0
        self._ended: list[_Ended] = []  # not delivered yet
        self._is_open = True
        self._threads = [threading.Thread(target=self._work, name=f"run-{n}", daemon=True) for n in range(slots)]
        for thread in self._threads:
            thread.start()

    def offer(self, graph: RunQueue, part: Part) -> None:
        """Give ``part`` to ``graph``, and ``graph`` its turn after those that asked earlier."""
        with self._changed:
            graph.add(part)
            if graph not in self._graphs:
                self._graphs.append(graph)
            self._offers += 1
            is_free = self._loop is None or self._loop.is_closed()
            if self._loop_runs and self._is_open and is_free and self._batches() >= self._slots:
                self._loop = part.loop
                self._turn_is_due = self._is_in_row = False  # of one that ended before it gave its place back
            if self._runs < self._places():
                self._changed.notify()
        self._ask_for_turn(part.loop)

    def close(self) -> None:
        """End the threads; what waits is run first."""
        with self._changed:
            self._is_open = False
            self._loop = None
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            work, ended = self._next()
            for loop in {part.loop for part, _ in ended}:
                with contextlib.suppress(RuntimeError):  # the loop has ended, and with it every request
                    loop.call_soon_threadsafe(self._answer, loop, [one for one in ended if one[0].loop is loop])
            if work is not None:
                self._run(work)
            elif not ended:
                return

    def _run(self, work: _Work) -> None:
        ended = _done(work)
        with self._changed:
            self._runs -= 1
            self._large_runs -= work.graph.is_large
            self._light_alone -= work.is_light_alone
            if work.is_light_alone and sum(graph.waiting for graph in self._graphs) > 1:
                self._changed.notify()  # more has waited for its cores than this thread takes next
            self._ended += ended

    def _answer(self, loop: asyncio.AbstractEventLoop, ended: Sequence[_Ended]) -> None:
        _settle(ended)
        self._ask_for_turn(loop)

    def _ask_for_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the loop have a look at what there is to run, where it has a place; in its thread."""
        if loop is self._loop and not self._turn_is_due:
            self._turn_is_due = True
            loop.call_soon(self._turn, loop, -1)

    def _turn(self, loop: asyncio.AbstractEventLoop, offers: int) -> None:
        """Run something on the loop, or give its place back; but first what else has come up there."""
        if offers != self._offers:
            loop.call_soon(self._turn, loop, self._offers)
            return
        self._turn_is_due = False
        with self._changed:
            if loop is not self._loop:
                return
            work = self._take_in_loop()
            self._is_in_row = work is not None
            self._looks_in_vain = 0 if work is not None else self._looks_in_vain + 1
            if work is None and (self._looks_in_vain == LOOKS_IN_VAIN or not self._runs):
                self._loop = None
                self._looks_in_vain = 0
                self._changed.notify_all()
        if work is not None:
            self._answer(loop, self._row(loop, work))

    def _row(self, loop: asyncio.AbstractEventLoop, work: _Work | None) -> list[_Ended]:
        """Do ``work`` and what may follow it in a row; return what has ended by then, in threads too."""
        until = time.monotonic() + ROW_SECONDS
        ended: list[_Ended] = []
        while work is not None:
            ended += _done(work)
            with self._changed:
                has_time = time.monotonic() + work.graph.run_seconds < until
                is_full = len(ended) + len(self._ended) >= ANSWERS_OF_ROW
                work = self._take_in_loop() if has_time and not is_full and self._loop is loop else None
                if work is None:
                    self._is_in_row = False
                    of_threads, self._ended = _split(self._ended, loop)
                    ended += of_threads
        return ended

    def _take_in_loop(self) -> _Work | None:
        """Take the next run, as ``_take``, where more waits than the threads have in hand."""
        return self._take()[0] if self._batches() >= self._slots > self._runs else None

    def _batches(self) -> int:
        """Return how many full batches wait; none where a run is likely to be too long for the event loop."""
        batches = 0
        for graph in self._graphs:
            if graph.run_seconds > LOOP_SECONDS:
                return 0
            batches += graph.full_batches
        return batches

    def _places(self) -> int:
        return self._slots - (self._loop is not None)

    def _next(self) -> tuple[_Work | None, list[_Ended]]:
        """Wait for something to run, or to deliver before; neither once all is run and the slots are closed."""
        with self._changed:
            while True:
                work, pause = self._take_in_thread()
                if (
                    work is not None
                    and work.graph.run_seconds < QUICK_SECONDS
                    and len(self._ended) < ANSWERS_TOGETHER <= work.graph.waiting
                ):
                    return work, []
                of_row, ended = _split(self._ended, self._loop if self._is_in_row else None)
                is_all_run = not self._is_open and not self._graphs
                if work is not None or ended or is_all_run:
                    self._ended = of_row
                    return work, ended
                self._changed.wait(pause)

    def _take_in_thread(self) -> tuple[_Work | None, float | None]:
        """Take the next run, as ``_take``, where a thread may have one more."""
        if self._runs >= self._places():
            return None, None
        work, pause = self._take()
        if work is not None:
            self._runs += 1
            self._large_runs += work.graph.is_large
            self._light_alone += work.is_light_alone
        return work, pause

    def _take(self) -> tuple[_Work | None, float | None]:
        """Take the next run, or say in how many seconds there may be one, None where only an offer brings it."""
        pause: float | None = None
        for _ in range(len(self._graphs)):
            graph = self._graphs.popleft()
            if graph.is_large and self._light_alone and self._is_open:  # it has the cores in a moment
                self._graphs.append(graph)
                continue
            left = graph.wait_left() if self._is_open else 0.0
            if left > 0:
                self._graphs.append(graph)
                pause = left if pause is None else min(pause, left)
                continue
            parts = graph.take()
            if graph.waiting:
                self._graphs.append(graph)
            if parts:
                is_alone = self._is_alone(graph)
                return _Work(graph, parts, is_alone, is_alone and graph.wide is not None and not graph.is_large), None
            if graph.waiting:  # what was taken has been given up just now
                pause = 0.0
        return None, pause

    def _is_alone(self, graph: RunQueue) -> bool:
        """Whether nothing is on or waits that the next run of ``graph`` would take cores from.

        For a large graph only other large ones count: a light run beside it is soon over. One that has all the cores
        itself is waited for, as ``_take`` says.
        """
        if self._loop is not None or 2 * self._decoding() >= self._slots:
            return False
        if graph.is_large:
            return not self._large_runs and not any(other.is_large for other in self._graphs)
        return not self._runs and not self._graphs


@dataclass(frozen=True, eq=False)
class _Work:
    """What is run next: parts of a graph's queue; ``is_alone`` where it may have all the cores.

    ``is_light_alone``: it has them, for the short time that a light run takes. Said once, as a graph gets its ``wide``
    one while runs are on.
    """

    graph: RunQueue
    parts: list[Part]
    is_alone: bool
    is_light_alone: bool


_Ended = tuple[Part, Outputs | Exception]


def _done(work: _Work) -> list[_Ended]:
    """Run it, and say how long that took."""
    began = time.monotonic()
    outcomes = work.graph.outcomes(work.parts, is_alone=work.is_alone)
    work.graph.run_seconds = time.monotonic() - began
    return list(zip(work.parts, outcomes, strict=True))


def _split(ended: Sequence[_Ended], loop: asyncio.AbstractEventLoop | None) -> tuple[list[_Ended], list[_Ended]]:
    """Return the ended parts of requests on ``loop``, and the others."""
    return [one for one in ended if one[0].loop is loop], [one for one in ended if one[0].loop is not loop]


def _settle(ended: Sequence[_Ended]) -> None:
    """Give requests their outcomes, on their loop, but for those given up."""
    for part, outcome in ended:
        if part.future.done():
            continue
        if isinstance(outcome, Exception):
            part.future.set_exception(outcome)
        else:
            part.future.set_result(outcome)
