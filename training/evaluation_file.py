"""The name of an evaluation in its run folder, for those who read it without evaluating anything."""

from __future__ import annotations

EVALUATION_FILE = "evaluation.json"
