"""What a graph's precision is, and what it changes, as a section of its model card."""

from __future__ import annotations

import math

from serving.graphs.manifest import Precision
from training.evaluation_table import percent
from training.graph_precision import RANGE_IMAGES, TOLERANCES
from training.precision_change import TITLES, PrecisionChange

_WHAT: dict[Precision, str] = {
    "fp32": "",
    "fp16": "The network up to its penultimate vector computes in float16",
    "int8": (
        "The convolutions but the first compute in 8-bit integers (static QDQ; weights int8 by channel, 7 bits used; "
        f"activations uint8, their ranges from up to {RANGE_IMAGES} images trained on)"
    ),
}


def precision_section(change: PrecisionChange) -> str:
    """Return the section's Markdown: the method, both graphs' figures in percent, and what an export allows."""
    false_alarm = change.false_alarm
    rows = [
        f"| {TITLES[name]} | {percent(value)} | {percent(change.lowered[name])} "
        f"| {100 * (change.lowered[name] - value):+.2f} |"
        for name, value in change.fp32.items()
    ]
    table = "\n".join([f"|  | fp32 | {change.precision} | change |", "| --- | --- | --- | --- |", *rows])
    sets = f" and {', '.join(change.set_auroc)}" if change.set_auroc else ""
    return "\n\n".join(
        [
            f"{_WHAT[change.precision]}; heads, log-softmax and scores in float32. The p-values are calibrated with "
            f"this graph's own scores. Both graphs on the same {change.test_images} test images{sets}, in percent:",
            table,
            f"The two anomaly scores differ by {change.score_difference:.2g} on average over the test images. False "
            f"alarms of this graph at alpha {false_alarm['alpha']}: {percent(false_alarm['rate'])} % of "
            f"{false_alarm['count']} normal test images. An export is refused where a figure falls by more than "
            f"{100 * change.max_loss:g} points{_tolerance(change.precision)}.",
        ]
    )


def _tolerance(precision: Precision) -> str:
    allowed = TOLERANCES[precision]
    if not math.isfinite(allowed):
        return ""
    return f", or an output differs from PyTorch's float32 by more than {allowed:g} · max(1, |value|)"
