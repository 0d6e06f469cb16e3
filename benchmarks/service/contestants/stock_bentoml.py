"""The same work with BentoML's own image parameter and defaults, as its documentation shows it."""

from __future__ import annotations

from typing import Any

import bentoml
import PIL.Image

from benchmarks.service.contestants.environment import Plan


@bentoml.service
class Stock:
    """One graph behind POST /answer with a file in the field ``images``."""

    def __init__(self) -> None:
        self._work = Plan.from_environment().work()

    @bentoml.api  # type: ignore[untyped-decorator]
    def answer(self, images: PIL.Image.Image) -> dict[str, Any]:
        """Fit the decoded image, run the graph and answer."""
        return self._work.answer(self._work.run(self._work.fit(images.convert("RGB"))[None]))
