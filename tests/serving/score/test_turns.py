from __future__ import annotations

import threading

from serving.score.turns import Turns


class Reader(threading.Thread):
    """Takes a turn at once, and ends it when it is told to."""

    def __init__(self, turns: Turns) -> None:
        super().__init__(daemon=True)
        self._turns = turns
        self.reads, self._end = threading.Event(), threading.Event()
        self.start()

    def run(self) -> None:
        with self._turns.turn():
            self.reads.set()
            assert self._end.wait(60)

    def finish(self) -> None:
        assert self.reads.wait(60)
        self._end.set()
        self.join()


def waits(reader: Reader) -> bool:
    return not reader.reads.wait(0.05)


def test_as_many_read_as_like_while_a_graph_waits() -> None:
    readers = [Reader(turns) for turns in [Turns(2)] for _ in range(4)]
    for reader in readers:
        assert reader.reads.wait(60)
    for reader in readers:
        reader.finish()


def test_one_reads_at_a_time_while_the_graphs_have_enough() -> None:
    turns = Turns(2)
    for _ in range(2):
        Reader(turns).finish()
    first = Reader(turns)
    assert first.reads.wait(60)
    second, third = Reader(turns), Reader(turns)
    assert waits(second)
    assert waits(third)
    first.finish()
    while waits(second) and waits(third):
        pass
    reading, waiting = (second, third) if second.reads.is_set() else (third, second)
    assert waits(waiting)
    turns.has_run()
    assert waits(waiting)
    turns.has_run()  # of the three that had been read one is left, and a graph waits
    waiting.finish()
    reading.finish()


def test_one_reads_even_where_much_is_ready() -> None:
    turns = Turns(1)
    for _ in range(5):
        Reader(turns).finish()
