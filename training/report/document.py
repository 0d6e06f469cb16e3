"""The report as a document: sections of text, tables and drawings, whatever it is written as."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from matplotlib import rc_context
from matplotlib.figure import Figure

from training.recipe import Scale
from training.report.attack_tables import further_attacks_table
from training.report.collect import Collection, Run, System
from training.report.conditions import conditions_tables
from training.report.plots import PLOTS, PlotKind
from training.report.tables import Table, figures_table, mark, ood_table, systems_of
from training.reproduce.targets import LATER, TARGETS, Target, TargetError


@dataclass(frozen=True)
class Drawing:
    """A plot as SVG text, with the name of its file and its caption."""

    name: str
    caption: str
    svg: str


@dataclass
class Section:
    """A target at a scale."""

    title: str
    parts: list[str | Table | Drawing] = field(default_factory=list)


@dataclass
class Document:
    """The whole report."""

    title: str
    introduction: list[str]
    sections: list[Section]


_MORE_TABLES = {"table-1": further_attacks_table, "figure-5": ood_table}


def build_document(collection: Collection, scale: Scale | None) -> Document:
    """Return the report of ``collection``: every target at ``scale``, or at each scale that there are runs of."""
    scales: list[Scale] = [scale] if scale is not None else collection.scales or ["paper"]
    counts = len(_shown(collection, True))
    introduction = [
        "Hendrycks, Mazeika, Kadavath, Song: Using Self-Supervised Learning Can Improve Model Robustness and "
        "Uncertainty (NeurIPS 2019). What the paper prints, beside what was measured here.",
        f"Of {counts} runs, at scale {', '.join(scales)}. Every measured value is from the evaluation.json and "
        "training.json of a run folder. Differences are of networks, schedules and data sets as the conditions say.",
    ]
    sections = [_section(collection, target, at) for target in TARGETS.values() for at in scales]
    whole = [section for section in sections if section is not None]
    whole.append(Section("Not reproduced", [f"{', '.join(LATER)} (Section 4.2, one-class learning): not built yet."]))
    others = [
        (run.name, f"{system.recipe.name} is of none of these tables and figures")
        for system, run in _shown(collection, False)
    ]
    rows = [[name, reason] for name, reason in sorted(collection.left_out + others)]
    if rows:
        whole.append(Section("Runs left out", [Table("", ["run folder", "why"], rows)]))
    return Document("Quarterturn: the paper's figures, reproduced", introduction, whole)


def _shown(collection: Collection, shown: bool) -> list[tuple[System, Run]]:
    """Return the runs of some table or figure, each with its row, or those of none."""
    systems = [system for system in collection.systems if bool(set(system.recipe.targets) & TARGETS.keys()) == shown]
    return [(system, run) for system in systems for run in system.runs]


def _section(collection: Collection, target: Target, scale: Scale) -> Section | None:
    """Return the section of a target; None if no recipe has it."""
    try:
        systems = systems_of(collection, target, scale)
    except TargetError:
        return None
    section = Section(f"{target.title}, scale {scale}")
    if mark(scale):
        section.parts.append(mark(scale))
    section.parts.append(figures_table(collection, target, scale))
    more = _MORE_TABLES.get(target.name)
    if more is not None and (table := more(collection, target, scale)) is not None:
        section.parts.append(table)
    section.parts += [_plot(kind, systems, target, scale) for kind in PLOTS.get(target.name, ())]
    section.parts += conditions_tables(collection, target, scale)
    calls = [call for call in collection.calls if (call.target, call.scale) == (target.name, scale)]
    section.parts += [f"`quarterturn reproduce` {call.in_words}." for call in calls]
    return section


def _plot(kind: PlotKind, systems: Sequence[System], target: Target, scale: Scale) -> Drawing | str:
    """Return the drawing with its caption, which names rows that were run and are not on it; or why there is none."""
    run = [system for system in systems if system.runs]
    without = [system.label for system in run if not any(found.evaluation.get(kind.part) for found in system.runs)]
    figure = kind.draw(systems)
    if figure is None:
        again = "not in these evaluations; `quarterturn evaluate RUN --data DATA` makes them anew"
        return f"{kind.caption}: {again if run else 'not run'}."
    where = f"{target.name}-{kind.name}-{scale}"
    lacking = f" Not in the evaluations of: {', '.join(without)}." if without else ""
    return Drawing(f"{where}.svg", f"{kind.caption}. Scale {scale}.{lacking}", svg_text(figure, where))


def svg_text(figure: Figure, name: str) -> str:
    """Return a figure as an <svg> element, the same for the same data; its ids begin with ``name``."""
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    svg = re.sub(r'(id="|#)', rf"\1{name}-", text[text.index("<svg") :])
    return re.sub(rf"#{name}-([0-9a-f]{{6}})(?=[;\"\s])", r"#\1", svg)  # colours are no ids
