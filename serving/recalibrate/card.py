"""Recalibrated card: the card of a recalibrated graph, made from that of the graph it comes from.

What does not depend on the calibration stays as it stands there, a text that somebody has added as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from serving.graphs.manifest import Manifest
from serving.graphs.model_card import calibration_text, card_table, file_cells
from serving.recalibrate.comparison import Comparison
from serving.recalibrate.in_words import comparison_report

_ORIGIN = "Recalibrated without training from "
_CALIBRATION = "## Calibration"
_COMPARISON = "## Old and new calibration"
_REPRODUCE = "## How to reproduce"


@dataclass(frozen=True)
class RecalibrationFacts:
    """What the card tells anew: of the new file of ``size`` bytes, of the graph it comes from, and how they differ."""

    manifest: Manifest
    size: int
    digest: str
    old_name: str
    old_digest: str
    copies: int
    left_out: int
    comparison: Comparison


def recalibrated_card(old_card: str, facts: RecalibrationFacts) -> str:
    """Return the new card as Markdown; ``old_card`` may be empty."""
    top, sections = _split(old_card)
    kept = "\n".join(line for line in top.splitlines() if not line.startswith(("# ", _ORIGIN)))
    parts = [f"# {facts.manifest.name}", _origin(facts), _renewed(kept, facts)]
    if facts.digest not in parts[-1]:
        parts.append(card_table(("", ""), [file_cells(facts.manifest, facts.size, facts.digest)]))
    recalibrated = [_CALIBRATION, _calibration(facts), _COMPARISON, comparison_report(facts.comparison)]
    if _CALIBRATION not in sections:
        parts += recalibrated
    for heading, text in sections.items():
        if heading == _CALIBRATION:
            parts += recalibrated
        elif heading == _REPRODUCE:
            parts += [heading, text, _then(facts)]
        elif heading != _COMPARISON:
            parts += [heading, _renewed(text, facts)]
    if _REPRODUCE not in sections:
        parts += [_REPRODUCE, _then(facts)]
    return "\n\n".join(stripped for part in parts if (stripped := part.strip("\n"))) + "\n"


def _split(card: str) -> tuple[str, dict[str, str]]:
    """Return what stands before the first heading of a section, and each section's text by its heading."""
    top: list[str] = []
    sections: dict[str, list[str]] = {}
    lines, fenced = top, False
    for line in card.splitlines():
        fenced ^= line.startswith("```")
        if line.startswith("## ") and not fenced:
            lines = sections.setdefault(line.rstrip(), [])
        else:
            lines.append(line)
    return "\n".join(top), {heading: "\n".join(text) for heading, text in sections.items()}


def _renewed(text: str, facts: RecalibrationFacts) -> str:
    """Return a kept text with the line of the file renewed, and rates of false alarms marked as the old ones."""
    name, cell = file_cells(facts.manifest, facts.size, facts.digest)
    lines = []
    for line in text.splitlines():
        if line.startswith(f"| {name} |"):
            line = f"| {name} | {cell} |"
        elif line.startswith("- false alarms") and not line.endswith("no more"):
            line += "; by the old calibration, and true no more"
        lines.append(line)
    return "\n".join(lines)


def _origin(facts: RecalibrationFacts) -> str:
    return (
        f"{_ORIGIN}`{facts.old_name}` (`{facts.old_digest}`), by `quarterturn calibrate`. The network, and so every "
        "class and score, is that model's to the bit; p-values and verdicts are by the new calibration. What is told "
        "below of the network was measured on that model."
    )


def _calibration(facts: RecalibrationFacts) -> str:
    calibration = facts.manifest.calibration
    copies = f" {facts.copies} copies of other images were left out." if facts.copies else ""
    left_out = f" {facts.left_out} files of the folder gave no image and were left out." if facts.left_out else ""
    return (
        f"{calibration_text(calibration, unseen=False)}{copies}{left_out}\n\nImages that the network was trained on "
        "must not calibrate it: whether these were is known to those who chose them alone."
    )


def _then(facts: RecalibrationFacts) -> str:
    command = f"quarterturn calibrate --model {facts.old_name} --images FOLDER --name {facts.manifest.name}"
    return f"Calibrated anew by\n\n```sh\n{command}\n```"
