"""Recalibration report: what ``quarterturn calibrate`` tells, as lines for a terminal."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from serving.graphs.calibration import smallest_alpha
from serving.printable import printable
from serving.recalibrate.in_words import comparison_report
from serving.recalibrate.new_graph import Recalibrated
from serving.settings import default_models_folder

# With so many images or more, the smallest p-value is 0.01 or less.
ENOUGH = 99
_OTHERS = "A verdict is of all models that run: calibrate the others on these images, too."


def warnings(done: Recalibrated) -> Iterator[str]:
    """Yield a line for each bad file, as far as they are known, for copies, for linked folders, for too few images."""
    for path, reason in done.reasons:
        yield f"left out: {printable(path)}: {reason}"
    if done.bad > len(done.reasons):
        yield f"left out: {done.bad - len(done.reasons)} more files"
    if done.copies:
        yield f"left out: {done.copies} copies of other images"
    if done.linked_folders:
        yield f"warning: links to folders are not followed: {done.linked_folders} passed by"
    n = done.manifest.calibration.n
    if n < ENOUGH:
        yield (
            f"warning: with {n} images the smallest p-value is {smallest_alpha(n):.2g}, and an alpha below it never "
            f"fires; {ENOUGH} images or more would do for alpha 0.01 where one model runs, {2 * ENOUGH + 1} where two "
            "do"
        )


def report(done: Recalibrated) -> str:
    """Return what was written, how the scores differ, and how to serve the new model."""
    n = done.manifest.calibration.n
    drawn = f", drawn at random from {done.scored}" if n < done.scored else ""
    copies = f"; {done.copies} copies of other images left out" if done.copies else ""
    left_out = f"; {done.bad} left out" if done.bad else ""
    written = f"{printable(done.path)}: calibrated on {n} images{drawn}{copies}{left_out}"
    return "\n\n".join([written, comparison_report(done.comparison), _how_to_serve(done)])


def _how_to_serve(done: Recalibrated) -> str:
    models = done.path.parents[1]
    folder = "" if models == default_models_folder() else f" --models {shlex.quote(printable(models))}"
    if done.manifest.name == done.old_name:
        serve = "A server that runs with this folder takes it over at SIGHUP; a new one: quarterturn serve"
    else:
        choice = "--default-classifier" if done.manifest.kind == "classifier" else "--one-class"
        serve = (
            "A server with both models is told which of them runs by default: "
            f"quarterturn serve {choice} {done.manifest.name}"
        )
    return f"{serve}{folder}\n\n{_OTHERS}"
