"""The report as Markdown; drawings are files beside it."""

from __future__ import annotations

from training.report.document import Document, Drawing
from training.report.tables import Table


def markdown(document: Document) -> str:
    """Return the document as Markdown that refers to its drawings by file name."""
    parts = [f"# {document.title}", *document.introduction]
    for section in document.sections:
        parts.append(f"## {section.title}")
        parts += [_part(part) for part in section.parts]
    return "\n\n".join(parts) + "\n"


def _part(part: str | Table | Drawing) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Drawing):
        return f"![{part.caption}]({part.name})"
    lines = [part.header, ["---"] * len(part.header), *part.rows]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    title = f"**{part.title}**" if part.title else ""
    return "\n\n".join(filter(None, [title, table, part.note]))
