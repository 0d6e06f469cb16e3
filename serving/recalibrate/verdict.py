"""Verdict: what kind of difference a comparison of old and new calibration scores shows."""

from __future__ import annotations

from enum import Enum, auto

from serving.recalibrate.comparison import SIGNIFICANCE, Comparison

# An AUROC so far from 0.5 is a shift that matters by itself.
SLIGHT = 0.05
# Two distribution functions no further apart than this differ little, if the alarms are right.
CLOSE = 0.1
# Above this most new images score higher than most old ones: they are strange to the network.
STRANGE = 0.8


class Verdict(Enum):
    """How the new scores lie beside the old ones; of alarms it says what the old calibration raises."""

    NO_DIFFERENCE = auto()
    CHANCE = auto()  # no difference but in the alarms, which the old calibration's own chance explains
    SLIGHT = auto()
    BETWEEN = auto()  # neither shifted nor other alarms than meant, but far apart
    TO_STRANGE = auto()
    HIGHER = auto()
    HIGHER_FEWER_ALARMS = auto()
    LOWER = auto()
    LOWER_MORE_ALARMS = auto()
    WIDER = auto()  # more alarms, and more low scores
    NARROWER = auto()
    MORE_HIGH = auto()  # more alarms, and neither shifted nor wider
    FEWER_HIGH = auto()


def verdict(found: Comparison) -> Verdict:
    """Return the kind of difference.

    The Kolmogorov-Smirnov test and the AUROC see the bulk of the scores, and little of a spread or of the tail that
    raises the alarms, so the alarms are looked at beside them. An interval that excludes alpha is never passed over.
    Where the test sees nothing, it is taken for a difference of the images only if both tails tested together say so at
    level SIGNIFICANCE; alike ones come out as different in about a tenth of all comparisons at most.
    """
    seen = found.p_value < SIGNIFICANCE
    off = [alarms for alarms in found.alarms if alarms.direction]
    if not seen:
        if not off:
            return Verdict.NO_DIFFERENCE
        off = [alarms for alarms in off if alarms.p_value < SIGNIFICANCE / len(found.alarms)]
        if not off:
            return Verdict.CHANCE
    alarms = max((alarms.direction for alarms in off), default=0)
    if seen and found.auroc >= STRANGE:
        return Verdict.TO_STRANGE
    low = found.low_end.direction if found.low_end.p_value < SIGNIFICANCE else 0
    if alarms and alarms == low:
        return Verdict.WIDER if alarms > 0 else Verdict.NARROWER
    if seen and found.auroc >= 0.5 + SLIGHT:
        return Verdict.HIGHER_FEWER_ALARMS if alarms < 0 else Verdict.HIGHER
    if seen and found.auroc <= 0.5 - SLIGHT:
        return Verdict.LOWER_MORE_ALARMS if alarms > 0 else Verdict.LOWER
    if alarms:
        return Verdict.MORE_HIGH if alarms > 0 else Verdict.FEWER_HIGH
    return Verdict.SLIGHT if found.distance < CLOSE else Verdict.BETWEEN
