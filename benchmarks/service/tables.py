"""A benchmark run as Markdown: its conditions, the bars, a table a workload, and the variants that were tried.

Printed, or put into a page, which holds each of the ``parts`` between ``<!-- measured: PART -->`` and ``<!-- end -->``.

    python -m benchmarks.service.tables RESULTS.json [--into docs/performance.md]
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.service.bars import bars
from benchmarks.service.line_up import CONTESTANTS, OURS, RAW
from benchmarks.service.results import Cell, Measurement, Results, cells
from benchmarks.service.workloads import WORKLOADS

HEADINGS = (
    "connections", "contestant", "run as", "requests/s", "of (a)", "p50 ms", "p95 ms", "p99 ms", "p50 - (a) ms",
    "CPU ms an answer", "wrk, cores", "failed",
)  # fmt: skip


_TITLES = {"start-and-memory": "Start and memory", "wrong": "What went wrong", "variants": "Variants tried"}
_MARKED = re.compile(r"(<!-- measured: ([a-z-]+) -->).*?(<!-- end -->)", re.DOTALL)


def parts(results: Results) -> dict[str, str]:
    """Return conditions, bars, table, variants, start-and-memory and wrong of a run as Markdown; none is empty."""
    summary = cells(results.measurements)
    tables = []
    for name in dict.fromkeys(cell.workload for cell in summary):
        tables += [f"### {WORKLOADS[name].title}", _workload([cell for cell in summary if cell.workload == name])]
    return {
        "conditions": _conditions(results),
        "bars": _bars(results, summary),
        "table": "\n\n".join(tables) or "Nothing was measured.",
        "variants": _trials(results.measurements),
        "start-and-memory": _start_and_memory(results),
        "wrong": "\n".join(f"- {one}" for one in results.wrong) or "Every answer was right, and no request failed.",
    }


def render(results: Results) -> str:
    """Return the whole run as Markdown, every part under a heading of the second level."""
    found = parts(results).items()
    return "\n\n".join(f"## {_TITLES.get(name, name.capitalize())}\n\n{part}" for name, part in found) + "\n"


def fill(page: str, results: Results) -> str:
    """Return a page with every marked part replaced by that of a run. Raises KeyError for a part that there is not."""
    measured = parts(results)
    return _MARKED.sub(lambda found: f"{found[1]}\n\n{measured[found[2]]}\n\n{found[3]}", page)


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; numbers are aligned by whoever shows it."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def digits(value: float, significant: int = 3) -> str:
    """Return a number with so many significant digits, and never an exponent: 1234.5 is 1234, 0.01234 is 0.0123."""
    if value == 0:
        return "0"
    decimals = max(0, significant - 1 - int(f"{value:e}".partition("e")[2]))
    return f"{value:.{decimals}f}"


def _conditions(results: Results) -> str:
    lines = []
    for name, value in results.conditions.items():
        if value in ({}, [], None, ""):
            continue
        shown = ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else value
        lines.append(f"- {name.replace('_', ' ')}: {shown}")
    return "\n".join(lines)


def _bars(results: Results, summary: Sequence[Cell]) -> str:
    found = bars(results, summary)
    if not found:
        return "None of the bars can be judged from what this run measured."
    rows = [
        (bar.what, f"{bar.sign} {digits(bar.limit)}", digits(bar.value), "yes" if bar.holds else "NO") for bar in found
    ]
    return markdown_table(("bar", "limit", "measured", "holds"), rows)


def _workload(summary: Sequence[Cell]) -> str:
    order = list(CONTESTANTS)
    ordered = sorted(summary, key=lambda cell: (cell.connections, order.index(cell.contestant)))
    return markdown_table(HEADINGS, map(_row, ordered))


def _row(cell: Cell) -> list[str]:
    return [
        str(cell.connections),
        CONTESTANTS[cell.contestant],
        cell.variant,
        digits(cell.requests_per_second),
        _ratio(cell.ratios),
        *(digits(value) for value in (cell.p50, cell.p95, cell.p99)),
        "" if cell.p50_over_raw is None or cell.contestant == RAW else f"{cell.p50_over_raw:+.2f}",
        digits(cell.cpu_ms_per_answer),
        "" if cell.contestant == RAW else f"{cell.generator_cores:.2f}",
        str(cell.failed),
    ]


def _ratio(ratios: tuple[float, ...] | None) -> str:
    if not ratios:
        return ""
    spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 and min(ratios) < max(ratios) else ""
    return f"{statistics.median(ratios):.2f}{spread}"


def _trials(measurements: Sequence[Measurement]) -> str:
    trials = [one for one in measurements if one.round is None]
    connections = sorted({one.connections for one in trials})
    rows: dict[tuple[str, str, str], dict[int, list[float]]] = {}
    for one in trials:
        row = rows.setdefault((one.workload, one.contestant, one.variant), {})
        row.setdefault(one.connections, []).append(one.load.requests_per_second)
    if not rows:
        return "None: each contestant had one variant."
    return (
        "Requests/s in short trials, the median where there were several; the best ran in the rounds.\n\n"
        + markdown_table(
            ("workload", "contestant", "run as", *(f"{count} connections" for count in connections)),
            [
                (
                    workload,
                    CONTESTANTS[contestant],
                    variant,
                    *(digits(statistics.median(row[count])) if count in row else "" for count in connections),
                )
                for (workload, contestant, variant), row in rows.items()
            ],
        )
    )


def _start_and_memory(results: Results) -> str:
    rows = []
    for name, seconds in results.ready.items():
        title = CONTESTANTS[OURS] if name == OURS else "empty BentoML service"
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        rows.append((f"{title}: seconds from start to ready", f"{statistics.median(seconds):.2f}", spread))
    for task, starts in results.memory.items():
        workers = [resident / 1e6 for start in starts for resident in start]
        if workers:
            spread = f"{min(workers):.0f} to {max(workers):.0f}"
            median = f"{statistics.median(workers):.0f}"
            rows.append((f"resident memory of a worker after the load of {task!r}, MB", median, spread))
    return markdown_table(("", "median", "spread"), rows) if rows else "Not measured."


def main() -> None:
    """Print a run, or put it into a page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--into", type=Path, metavar="PAGE")
    given = parser.parse_args()
    results = Results.load(given.results)
    if given.into:
        given.into.write_text(fill(given.into.read_text(), results))
    else:
        print(render(results), end="")


if __name__ == "__main__":
    main()
