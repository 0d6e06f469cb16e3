"""The server that a module of tests shares."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.tiny_server import Server, tiny_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with tiny_server(tmp_path_factory.mktemp("server")) as running:
        yield running
