"""Graphs that several modules' tests ask about."""

from __future__ import annotations

import pytest

from serving.graphs.graph import Graph, load_graph
from tests.graphs import write_graph


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return load_graph(write_graph(tmp_path_factory.mktemp("models"), "colours"))


@pytest.fixture(scope="module")
def one_class(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    folder = tmp_path_factory.mktemp("models")
    return load_graph(write_graph(folder, "views", formula="transformation", in_class="cat"))
