"""Model card: the parts that a card has whether a graph was exported or recalibrated, as plain Markdown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.graphs.manifest import Calibration, Manifest

CARD_FILE = "README.md"


def card_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of so many columns as the header has."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def file_cells(manifest: Manifest, size: int, digest: str) -> tuple[str, str]:
    """Return the two cells that say what file it is: ``size`` in bytes, ``digest`` of the whole file."""
    return "file", f"`model.onnx`, {size / 1e6:.2f} MB, {manifest.precision}, `{digest}`"


def calibration_text(calibration: Calibration, *, unseen: bool) -> str:
    """Return what calibrates and what follows of it; ``unseen``: the network was certainly never trained on it."""
    never = ", never trained on" if unseen else ""
    return (
        f"{calibration.n} images of {calibration.data} ({calibration.split}){never}; scores from "
        f"{calibration.scores[0]:.3f} to {calibration.scores[-1]:.3f}, median {np.median(calibration.scores):.3f}; "
        f"digest of their pixels `{calibration.digest}`. A p-value is (1 + number of these at or above the score) / "
        f"{calibration.n + 1}: the smallest is {1 / (calibration.n + 1):.2g}, and a smaller alpha never fires."
    )
