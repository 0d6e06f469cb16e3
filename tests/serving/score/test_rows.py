from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.requests.answers import classify_results, score_parts
from serving.score.pipeline import Batch, ReadFile, Scorer
from serving.score.rows import COLUMNS, Row, batch_rows
from serving.settings import Settings
from tests.graphs import solid, write_graph
from tests.serving.image_folders import save


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    folder = tmp_path_factory.mktemp("models")
    write_graph(folder, "colours")
    write_graph(folder, "views", formula="transformation")
    return Scorer.load(Settings(models=folder, device="cpu"))


def rows_of(files: Sequence[Path], scorer: Scorer, alpha: float = 0.05) -> list[list[Row]]:
    return [rows for batch in scorer.score(map(str, files)) for _, rows in batch_rows(batch, scorer.graphs, alpha)]


def test_a_row_for_each_file_and_model(tmp_path: Path, scorer: Scorer) -> None:
    files = [save(tmp_path / "black.png", 0), save(tmp_path / "white.jpg", 255)]
    (black, black_views), (white, white_views) = rows_of(files, scorer)
    classifier, one_class = scorer.graphs
    probabilities = classifier.run(solid(0)[None])["probabilities"][0]
    assert (black.path, black.model, black.label) == (str(files[0]), "colours", "cat")
    assert black.probability == pytest.approx(float(probabilities.max()), rel=1e-6)
    assert white.score == pytest.approx(float(classifier.run(solid(255)[None])["anomaly_score"][0]), rel=1e-6)
    assert (white.p_value, white.is_anomaly, black.is_anomaly) == (0.01, True, False)
    assert (white_views.model, white_views.label, white_views.probability) == ("views", None, None)
    assert black_views.score == pytest.approx(float(one_class.run(solid(0)[None])["anomaly_score"][0]), rel=1e-6)
    assert not any(row.error for row in (black, black_views, white, white_views))
    assert {type(value) for value in black[3:7]} == {float, bool}
    assert black.score == np.float32(black.score)


def test_a_bad_file_has_its_reason_in_the_row_of_every_model(tmp_path: Path, scorer: Scorer) -> None:
    good, bad = save(tmp_path / "good.png", 0), tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    first, reported, last = rows_of([good, bad, good], scorer)
    assert first == last
    assert [row.model for row in reported] == ["colours", "views"]
    for row in reported:
        assert row == Row(str(bad), row.model, error=row.error)
        assert "no image" in (row.error or "")
    assert rows_of([bad], scorer) == [reported]


def test_alpha_decides_what_is_an_anomaly(tmp_path: Path, scorer: Scorer) -> None:
    files = [save(tmp_path / "grey.png", 150)]
    p_value = rows_of(files, scorer)[0][0].p_value
    assert p_value
    assert rows_of(files, scorer, alpha=p_value)[0][0].is_anomaly is True
    assert rows_of(files, scorer, alpha=p_value - 1e-6)[0][0].is_anomaly is False


FLOATS = st.floats(width=32)


@given(
    classifier=st.booleans(),
    scores=st.lists(FLOATS | st.sampled_from([0.5, 1.0]), min_size=1, max_size=5),
    values=st.lists(FLOATS | st.just(0.25), min_size=15, max_size=15),
)
def test_rows_say_what_a_server_answers(
    scorer: Scorer, classifier: bool, scores: list[float], values: list[float]
) -> None:
    graph = next(graph for graph in scorer.graphs if (graph.manifest.kind == "classifier") is classifier)
    outputs = {"anomaly_score": np.array(scores, np.float32)}
    if classifier:
        probabilities = np.resize(np.array(values, np.float32), (len(scores), len(graph.manifest.classes)))
        outputs |= {"probabilities": probabilities, "kl_uniform": outputs["anomaly_score"]}
    files = [ReadFile(f"{index}.png", None, {}, None) for index in range(len(scores))]
    rows = [row for _, [row] in batch_rows(Batch(files, [outputs]), [graph], 0.05)]
    for row, part in zip(rows, score_parts(graph, outputs, 0.05), strict=True):
        assert (row.score, row.p_value, row.is_anomaly) == (part["score"], part["p_value"], part["is_anomaly"])
    if classifier:
        top = [(result["label"], result["probability"]) for result in classify_results(graph, outputs, 1)]
        assert [(row.label, row.probability) for row in rows] == top


def test_the_columns_are_those_that_readers_know() -> None:
    assert COLUMNS == ("path", "model", "label", "probability", "score", "p_value", "is_anomaly", "error")
