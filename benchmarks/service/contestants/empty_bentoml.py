"""A BentoML service that does nothing: how long BentoML itself takes to be ready."""

from __future__ import annotations

import bentoml


@bentoml.service
class Empty:
    """Loads nothing."""

    @bentoml.api  # type: ignore[untyped-decorator]
    def nothing(self) -> None:
        """Answer nothing."""
