from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.graphs.graph import load_graph
from serving.graphs.inference import batch_sizes, chunk_size, run_graph
from serving.images.fitting import Fitting
from tests.graphs import write_graph

SMALL = Fitting(size=32, shorter_side=32)


def noise(size: int, seed: int = 0) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("formula", ["transformation", "kl_rotation", "msp"])
def test_images_run_in_chunks_score_as_alone(tmp_path: Path, formula: str) -> None:
    graph = load_graph(write_graph(tmp_path, "made", formula=formula))
    count = chunk_size(graph) * 2 + 1 if formula == "transformation" else 5
    images = [{SMALL: noise(32, seed)} for seed in range(count)]
    together = run_graph(graph, images)
    assert {len(output) for output in together.values()} == {count}
    for index in (0, count // 2, count - 1):
        alone = graph.run(images[index][SMALL][None])
        for name, output in alone.items():
            np.testing.assert_allclose(together[name][index], output[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("formula", "size", "images"),
    [("transformation", 32, 1), ("kl_rotation", 32, 4), ("msp", 48, 4), ("transformation", 512, 1)],
)
def test_a_chunk_is_bounded_by_the_pixels_of_its_views(tmp_path: Path, formula: str, size: int, images: int) -> None:
    options = {"calibration": [0.0]} if size > 32 else {}
    graph = load_graph(write_graph(tmp_path, "made", formula=formula, size=size, **options))
    assert chunk_size(graph) == images
    assert batch_sizes(graph) == tuple(size for size in (1, 2, 4) if size <= images)
