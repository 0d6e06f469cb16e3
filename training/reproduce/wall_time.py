"""How long `quarterturn reproduce` took in wall time: one JSON line a call in RUNS/reproduce.jsonl.

A job's own seconds do not tell: jobs run side by side, and starting, evaluating and waiting are no part of them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.durations import duration
from training.recipe import Scale

CALLS_FILE = "reproduce.jsonl"


@dataclass(frozen=True)
class Call:
    """One call of reproduce: what was asked for, its wall time in seconds, and how many jobs ended how.

    ``finished``: by this call; ``finished_before``: found finished and not run again. ``engine``: in words.
    """

    target: str
    scale: Scale
    seeds: int
    engine: str
    seconds: float
    finished: int
    finished_before: int
    stopped: int
    failed: int

    @property
    def in_words(self) -> str:
        """The call in a sentence."""
        jobs = f"{self.finished} job{'' if self.finished == 1 else 's'}"
        ended = {"found finished": self.finished_before, "left to do": self.stopped, "failed": self.failed}
        rest = "".join(f", {count} {how}" for how, count in ended.items() if count)
        return (
            f"{self.target}, scale {self.scale}, {self.seeds} seed{'s' if self.seeds > 1 else ''}: "
            f"{duration(self.seconds)} of wall time for {jobs}{rest}; {self.engine}"
        )


def keep_call(runs: Path, call: Call) -> None:
    """Add ``call`` to those kept in ``runs``."""
    with (runs / CALLS_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(call)) + "\n")


def read_calls(path: Path) -> list[Call]:
    """Return the calls that a file of ``keep_call`` holds, oldest first, without a line that a kill cut short."""
    calls = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found: dict[str, Any] = json.loads(line)
            calls.append(Call(**found))
        except (ValueError, TypeError):
            continue
    return calls
