"""What a soak found, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.service.tables import markdown_table
from benchmarks.soak.watch import Trend, Watch

MOST_PROBLEMS_SHOWN = 20


@dataclass
class Tally:
    """Requests of one kind: sent, those that went as they must, and how often a 503 asked to try again."""

    sent: int = 0
    right: int = 0
    retried: int = 0
    statuses: Counter[str] = field(default_factory=Counter)


@dataclass
class Report:
    """``wrong`` holds one sentence for each thing that was not right; all is well where it is empty.

    ``unit`` of the watch: "minute" or "thousand requests"; ``units``: how many of its ``at`` make one.
    """

    title: str
    conditions: Mapping[str, Any]
    tallies: dict[str, Tally]
    watch: Watch
    judged_from: float
    growth_limit: float
    files_before: Mapping[int, int]
    files_after: Mapping[int, int]
    unit: str
    units: float
    wrong: list[str]

    def markdown(self) -> str:
        """Return the summary."""
        kinds = [
            (kind, str(tally.sent), str(tally.right), str(tally.retried), _statuses(tally.statuses))
            for kind, tally in self.tallies.items()
        ]
        parts = [
            f"## {self.title}",
            "\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in self.conditions.items() if value != {}),
            markdown_table(("requests", "sent", "as they must be", "503, tried again", "statuses"), kinds),
            self._workers(),
            f"Memory is judged from {self._judged_from()} on, by the median slope of all pairs of samples (Theil and "
            f"Sen): it may grow by {self.growth_limit:.0%} over the rest of the run.",
            self._verdict(),
        ]
        return "\n\n".join(parts) + "\n"

    def _workers(self) -> str:
        rows = []
        for worker, samples in self.watch.samples.items():
            trend = Trend.of([sample for sample in samples if sample.at >= self.judged_from])
            slope = f"{trend.slope * self.units:+.2f} ({trend.growth:+.1%} in all)" if trend else "too few samples"
            files = max(sample.files for sample in samples)
            rows.append(
                (
                    str(worker),
                    f"{samples[0].megabytes:.0f}",
                    f"{trend.median:.0f}" if trend else "",
                    f"{max(sample.megabytes for sample in samples):.0f}",
                    slope,
                    f"{self.files_before.get(worker, 0)}, {files}, {self.files_after.get(worker, 0)}",
                )
            )
        headings = ("worker", "MB first", "MB median", "MB most", f"MB a {self.unit}", "files before, most, after")
        return markdown_table(headings, rows)

    def _judged_from(self) -> str:
        minutes = self.unit == "minute"
        return f"minute {self.judged_from / self.units:.3g}" if minutes else f"request {self.judged_from:.0f}"

    def _verdict(self) -> str:
        if not self.wrong:
            return "All is right."
        shown = [f"- {one}" for one in self.wrong[:MOST_PROBLEMS_SHOWN]]
        more = len(self.wrong) - len(shown)
        return "\n".join([f"{len(self.wrong)} NOT RIGHT:", "", *shown, *([f"- and {more} more"] if more else [])])


def _statuses(statuses: Counter[str]) -> str:
    return ", ".join(f"{status} x {count}" for status, count in sorted(statuses.items()))
