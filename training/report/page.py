"""The report as one HTML page that needs nothing else: style and drawings inside, readable in light and dark."""

from __future__ import annotations

import re
from html import escape

from training.report.document import Document, Drawing
from training.report.tables import Table

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #ffffff; --line: #d0d0d0; --head: #f2f2f2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #17191c; --line: #3c4046; --head: #23272c; } }
body { margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: var(--ink); background: var(--paper);
       font: 16px/1.5 system-ui, sans-serif; }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); }
.scroll { overflow-x: auto; margin: 1rem 0 0.5rem; }
table { border-collapse: collapse; font-size: 0.875rem; }
caption { text-align: left; font-weight: 600; padding: 0.5rem 0; }
th, td { border: 1px solid var(--line); padding: 0.25rem 0.6rem; text-align: left; vertical-align: top; }
th { background: var(--head); }
figure { margin: 1.5rem 0; padding: 0.75rem; background: #ffffff; color: #1b1b1b; border-radius: 0.5rem; }
figure svg { max-width: 100%; height: auto; }
.note { font-size: 0.875rem; opacity: 0.85; }
"""


def page(document: Document) -> str:
    """Return the document as an HTML page."""
    body = [f"<h1>{escape(document.title)}</h1>", *(_paragraph(text) for text in document.introduction)]
    for section in document.sections:
        body.append(f"<h2>{escape(section.title)}</h2>")
        body += [_part(part) for part in section.parts]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(document.title)}</title><style>{_STYLE}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body></html>\n"


def _part(part: str | Table | Drawing) -> str:
    if isinstance(part, str):
        return _paragraph(part)
    if isinstance(part, Drawing):
        label = f'role="img" aria-label="{escape(part.caption, quote=True)}"'
        svg = part.svg.replace("<svg ", f"<svg {label} ", 1)
        return f"<figure>{svg}<figcaption>{_text(part.caption)}</figcaption></figure>"
    caption = f"<caption>{_text(part.title)}</caption>" if part.title else ""
    head = "".join(f"<th>{_text(cell)}</th>" for cell in part.header)
    rows = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in part.rows)
    table = f'<div class="scroll"><table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    return table + (f'<p class="note">{_text(part.note)}</p>' if part.note else "")


def _paragraph(text: str) -> str:
    return f"<p>{_text(text)}</p>"


def _text(text: str) -> str:
    """Escape, and turn `code` into <code>."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))
