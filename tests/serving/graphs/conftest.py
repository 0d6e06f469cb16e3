"""A graph that several modules' tests run."""

from __future__ import annotations

import pytest

from serving.graphs.graph import Graph, load_graph
from tests.graphs import write_graph


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return load_graph(write_graph(tmp_path_factory.mktemp("models")), threads=1)
