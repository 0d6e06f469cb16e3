"""Whether a data root still holds what a run was trained on: the same classes and, where it matters, the very images.

Which images are held out follows from the whole training split, so with one image more or fewer it is others, and some
of those that calibrate have been trained on. Reading a split takes its digest, so that asking costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.data.image_set import ImageSet
from training.run_folder import RunError

WHAT_TO_DO = "put the data back as it was, or train anew"
MOST_NAMED = 5


def check_trained_on(images: ImageSet, trained: Mapping[str, Any]) -> None:
    """Raise RunError, saying what to do, if ``images`` do not suit the run whose training record ``trained`` is.

    Their classes must be those of the record, which give each of the network's outputs its meaning; images of the split
    that was trained on must be the very ones, by their digest.
    """
    classes, data = trained.get("classes"), trained.get("data", {})
    if classes is not None and list(images.classes) != classes:
        raise RunError(
            f"the classes of {images.name!r} are not those that the run was trained on"
            f"{_difference(list(images.classes), classes)}; {WHAT_TO_DO}"
        )
    if images.split == data.get("split") and images.digest != data.get("digest"):
        raise RunError(
            f"the images of {images.name}/{images.split} are not those that the run was trained on: "
            f"which of them were held out can no longer be told; {WHAT_TO_DO}"
        )


def _difference(here: list[str], there: list[str]) -> str:
    parts = [
        f"{', '.join(names[:MOST_NAMED])}{', ...' if len(names) > MOST_NAMED else ''} {what}"
        for what, names in (
            ("came since", [name for name in here if name not in there]),
            ("went", [name for name in there if name not in here]),
        )
        if names
    ]
    return f": {', '.join(parts)}" if parts else ""
