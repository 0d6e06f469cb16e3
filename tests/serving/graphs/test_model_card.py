from __future__ import annotations

from pathlib import Path

from serving.graphs.graph import load_graph
from serving.graphs.model_card import calibration_text, card_table, file_cells
from tests.graphs import write_graph


def test_a_table_is_markdown() -> None:
    assert card_table(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_the_calibration_says_what_follows_of_it(tmp_path: Path) -> None:
    calibration = load_graph(write_graph(tmp_path, calibration=[-3.0, -1.0, 0.0, 5.0])).manifest.calibration
    text = calibration_text(calibration, unseen=True)
    assert text.startswith("4 images of greys (train), never trained on; scores from -3.000 to 5.000, median -0.500;")
    assert calibration.digest in text
    assert "the smallest is 0.2" in text
    assert "never trained on" not in calibration_text(calibration, unseen=False)


def test_the_file_has_its_size_precision_and_digest(tmp_path: Path) -> None:
    graph = load_graph(write_graph(tmp_path))
    assert file_cells(graph.manifest, 1_234_567, graph.digest) == (
        "file",
        f"`model.onnx`, 1.23 MB, fp32, `{graph.digest}`",
    )
