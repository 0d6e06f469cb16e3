"""Writing the report: report.md with its drawings, and report.html."""

from __future__ import annotations

from pathlib import Path

from serving.files import write_together
from training.recipe import Scale
from training.report.collect import collect
from training.report.document import Drawing, build_document
from training.report.markdown import markdown
from training.report.page import page


class ReportError(ValueError):
    """A folder that no report can be made of; the message says why."""


def write_report(runs: Path, out: Path, scale: Scale | None = None) -> list[Path]:
    """Write the report of the run folders under ``runs`` into ``out``; returns the Markdown and the HTML file.

    Raises ReportError if there is no such folder. Rows that were not run are in the report as 'not run'.
    """
    if not runs.is_dir():
        raise ReportError(f"no folder {runs}")
    document = build_document(collect(runs, scale), scale)
    drawings = [part for section in document.sections for part in section.parts if isinstance(part, Drawing)]
    out.mkdir(parents=True, exist_ok=True)
    pages = {out / "report.md": markdown(document), out / "report.html": page(document)}
    files = {**{out / drawing.name: drawing.svg for drawing in drawings}, **pages}
    write_together({path: text.encode() for path, text in files.items()})
    return list(pages)
