"""Comparison report: what a comparison of old and new calibration scores tells a person, and what it cannot tell.

Markdown, for a terminal and for a model card.
"""

from __future__ import annotations

import math

from serving.graphs.model_card import card_table
from serving.recalibrate.comparison import CONFIDENCE, LEVELS, Alarms, Comparison

# A test below this is taken for a difference, and an AUROC so far from 0.5 for one that matters by itself.
SIGNIFICANCE = 0.05
SLIGHT = 0.05
# Above this most new images score higher than most old ones: they are strange to the network.
STRANGE = 0.8
# The distance that a Kolmogorov-Smirnov test at level 0.05 takes for a difference, times the root of the sample size.
_CRITICAL = 1.358
_LIMITS = (
    "The comparison sees one score an image. A difference says that the old p-values were wrong for these images, "
    "not what differs; no difference does not say that the images look alike, for unlike images can score alike. "
    "The test takes the images for independent: frames of one video, or copies, make its p-value too small. And "
    "every image of the folder counts as normal: an anomaly among them makes its like pass."
)


def comparison_report(found: Comparison) -> str:
    """Return a table of old and new scores, the old calibration's alarms on the new images, and whether they differ."""
    return "\n\n".join([_table(found), *map(_alarms, found.alarms), _likeness(found), _LIMITS])


def _table(found: Comparison) -> str:
    rows = [("images", str(found.old_n), str(found.new_n))]
    quantiles = zip(LEVELS, found.old_quantiles, found.new_quantiles, strict=True)
    rows += [
        ("median" if level == 0.5 else f"{100 * level:g} % quantile", f"{old:.3f}", f"{new:.3f}")
        for level, old, new in quantiles
    ]
    rows += [
        (f"alarm at alpha {alarms.alpha:g} above", _threshold(alarms.old_threshold), _threshold(alarms.new_threshold))
        for alarms in found.alarms
    ]
    width = max(len(row[0]) for row in rows)
    padded = [(title.ljust(width), old.rjust(9), new.rjust(9)) for title, old, new in rows]
    return card_table(("score".ljust(width), "      old", "      new"), padded)


def _threshold(score: float | None) -> str:
    return "never" if score is None else f"{score:.3f}"


def _alarms(alarms: Alarms) -> str:
    if alarms.lowest > alarms.alpha:
        verdict = "more than"
    elif alarms.highest < alarms.alpha:
        verdict = "fewer than"
    else:
        verdict = "which may well be"
    interval = f"{100 * CONFIDENCE:g} % interval {100 * alarms.lowest:.1f} to {100 * alarms.highest:.1f} %"
    return (
        f"With the old calibration {100 * alarms.rate:.1f} % of the new images raise the alarm at alpha "
        f"{alarms.alpha:g} ({interval}), {verdict} the {100 * alarms.alpha:g} % meant."
    )


def _likeness(found: Comparison) -> str:
    figures = (
        f"(Kolmogorov-Smirnov distance {found.distance:.3f}, p-value {found.p_value:.2g}; a new image scores above an "
        f"old one with probability {found.auroc:.3f}, where 0.5 is alike)"
    )
    if found.p_value >= SIGNIFICANCE:
        seen = _CRITICAL * math.sqrt((found.old_n + found.new_n) / (found.old_n * found.new_n))
        return (
            f"**No difference seen** between the old calibration images and the new ones {figures}. With so many "
            f"images a distance above {seen:.2f} would have shown; a smaller one may be there."
        )
    if found.auroc >= STRANGE:
        return (
            "**Not the same distribution, and strange to this network**: the new images score far above those it was "
            f"calibrated on {figures}. The new calibration sets the rate of false alarms right, but a network that "
            "finds normal images strange may not tell anomalies from them: measure it on anomalies of your own, or "
            "train on images like these."
        )
    if abs(found.auroc - 0.5) < SLIGHT:
        return f"**Not the same distribution, if not by much** {figures}."
    if found.auroc > 0.5:
        return f"**Not the same distribution**: the new images score higher, as stranger images do {figures}."
    return (
        f"**Not the same distribution**: the new images score lower, as more ordinary images do {figures}. So do "
        "images that the network was trained on, which must not calibrate it."
    )
