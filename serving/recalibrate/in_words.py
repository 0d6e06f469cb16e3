"""Comparison report: what a comparison of old and new calibration scores tells a person, and what it cannot tell.

Markdown, for a terminal and for a model card.
"""

from __future__ import annotations

from serving.graphs.model_card import card_table
from serving.recalibrate.comparison import CONFIDENCE, LEVELS, Alarms, Comparison, distance_seen
from serving.recalibrate.verdict import Verdict, verdict

_LOOK = (
    "Look at the images that score highest (`quarterturn score` gives each its score). If they are normal, use the new "
    "calibration, which sets the rate of false alarms right. If they are anomalies, take them out and calibrate again: "
    "with them in it, their like would pass."
)
_PASSES = "With the old calibration more anomalies pass than need be."
_TRAINED_ON = "So do images that the network was trained on, which must not calibrate it."
_NOT_SHIFTED = "on the whole the new images score hardly higher or lower {figures}"
# Of each verdict what is said; {figures} are the test's.
_SAID = {
    Verdict.NO_DIFFERENCE: (
        "**No difference seen** between the old calibration images and the new ones {figures}. With so many images "
        "nine of ten comparisons would show a distance of {seen:.2f}; a smaller one may be there."
    ),
    Verdict.CHANCE: (
        "**Other alarms than meant, though the images may be alike** {figures}: that the old calibration had {old_n} "
        "images, and which, may alone explain it. It is off for these images all the same. The new one may be off by "
        "chance, too: the less, the more images calibrate."
    ),
    Verdict.SLIGHT: "**Not the same distribution, if not by much** {figures}.",
    Verdict.BETWEEN: (
        f"**Not the same distribution**: {_NOT_SHIFTED}, and the alarms may well be as many as meant, but in between "
        "the scores lie otherwise."
    ),
    Verdict.TO_STRANGE: (
        "**Not the same distribution, and strange to this network**: the new images score far above those it was "
        "calibrated on {figures}. The new calibration sets the rate of false alarms right, but a network that finds "
        "normal images strange may not tell anomalies from them: measure it on anomalies of your own, or train on "
        "images like these."
    ),
    Verdict.HIGHER: "**Not the same distribution**: the new images score higher, as stranger images do {figures}.",
    Verdict.HIGHER_FEWER_ALARMS: (
        "**Not the same distribution**: the new images score higher {figures}, but fewer of them so high as to raise "
        f"the alarm. {_PASSES}"
    ),
    Verdict.LOWER: (
        "**Not the same distribution**: the new images score lower, as more ordinary images do {figures}. "
        f"{_TRAINED_ON}"
    ),
    Verdict.LOWER_MORE_ALARMS: (
        "**Not the same distribution, and a wider one**: most new images score lower, but more of them than meant so "
        f"high as to raise the alarm {{figures}}. {_LOOK} The others score as more ordinary images do. {_TRAINED_ON}"
    ),
    Verdict.WIDER: (
        "**Not the same distribution, but a wider one**: more of the new images score very low, and more so high as to "
        f"raise the alarm {{figures}}. {_LOOK} Those that score low may be images that the network was trained on, "
        "which must not calibrate it."
    ),
    Verdict.MORE_HIGH: (
        f"**Not the same distribution in the high scores**: {_NOT_SHIFTED}, but more of them so high as to raise the "
        f"alarm. {_LOOK}"
    ),
    Verdict.NARROWER: (
        "**Not the same distribution, but a narrower one**: fewer of the new images score very low, and fewer so high "
        f"as to raise the alarm {{figures}}. {_PASSES}"
    ),
    Verdict.FEWER_HIGH: (
        f"**Not the same distribution in the high scores**: {_NOT_SHIFTED}, but fewer of them so high as to raise the "
        f"alarm. {_PASSES}"
    ),
}
# A p-value below this is near to underflow, and no more is known of it.
_SMALLEST = 1e-300
_LIMITS = (
    "The comparison sees one score an image. A difference says that the old p-values were wrong for these images, "
    "not what differs; no difference does not say that the images look alike, for unlike images can score alike. "
    "The test and the new calibration take the images for independent: frames of one video, or one picture saved anew, "
    "make few pass for many. And every image of the folder counts as normal: an anomaly among them makes its like pass."
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
    if alarms.old_threshold is None:
        return (
            f"The old calibration can never raise the alarm at alpha {alarms.alpha:g}: it has too few images for that."
        )
    beside = {1: "more than", -1: "fewer than", 0: "which may well be"}[alarms.direction]
    interval = f"{100 * CONFIDENCE:g} % interval {100 * alarms.lowest:.1f} to {100 * alarms.highest:.1f} %"
    return (
        f"With the old calibration {100 * alarms.rate:.1f} % of the new images raise the alarm at alpha "
        f"{alarms.alpha:g} ({interval}), {beside} the {100 * alarms.alpha:g} % meant."
    )


def _likeness(found: Comparison) -> str:
    p_value = f"{found.p_value:.2g}" if found.p_value >= _SMALLEST else f"below {_SMALLEST:g}"
    figures = (
        f"(Kolmogorov-Smirnov distance {found.distance:.3f}, p-value {p_value}; a new image scores above an old one "
        f"with probability {found.auroc:.3f}, where 0.5 is alike)"
    )
    seen = distance_seen(found.old_n, found.new_n)
    return _SAID[verdict(found)].format(figures=figures, old_n=found.old_n, seen=seen)
