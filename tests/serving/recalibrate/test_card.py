from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.graphs.graph import load_graph
from serving.recalibrate.card import RecalibrationFacts, recalibrated_card
from serving.recalibrate.comparison import compare_scores
from tests.graphs import write_graph

ROOT = Path(__file__).parents[3]
SHIPPED = [path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("models/*/README.md"))]


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> RecalibrationFacts:
    graph = load_graph(write_graph(tmp_path_factory.mktemp("models"), "new", calibration=[-2.0, -1.0, 0.5]))
    return RecalibrationFacts(
        manifest=graph.manifest,
        size=2_000_000,
        digest="sha256:newfile",
        old_name="old",
        old_digest="sha256:oldfile",
        copies=5,
        left_out=3,
        comparison=compare_scores(np.arange(99, dtype=np.float32), np.arange(50, dtype=np.float32)),
    )


def sections(card: str) -> dict[str, str]:
    top, *rest = card.split("\n## ")
    return {"": top} | {part.split("\n", 1)[0]: part.split("\n", 1)[1] for part in rest}


@pytest.mark.parametrize("old", SHIPPED, ids=lambda card: card.splitlines()[0][2:])
def test_of_a_shipped_card_only_what_depends_on_the_calibration_is_new(old: str, facts: RecalibrationFacts) -> None:
    before, after = sections(old), sections(recalibrated_card(old, facts))
    assert list(after) == [
        *list(before)[: list(before).index("Calibration") + 1],
        "Old and new calibration",
        *list(before)[list(before).index("Calibration") + 1 :],
    ]
    for name in ("Trained on", "Limits"):
        assert after[name].strip() == before[name].strip()
    assert after[""].startswith("# new\n\nRecalibrated without training from `old` (`sha256:oldfile`)")
    assert "| file | `model.onnx`, 2.00 MB, fp32, `sha256:newfile` |" in after[""]
    assert after[""].count("`model.onnx`") == 1
    changed = set(after["Measured"].splitlines()) - set(before["Measured"].splitlines())
    assert [line[:14] for line in changed] == ["- false alarms"]
    assert all(line.endswith("by the old calibration, and true no more") for line in changed)
    assert after["Calibration"].startswith("\n3 images of greys")
    assert "5 copies of other images were left out. 3 files of the folder gave no image" in after["Calibration"]
    assert "never trained on" not in after["Calibration"]
    assert after["How to reproduce"].startswith(before["How to reproduce"].rstrip())
    assert "quarterturn calibrate --model old --images FOLDER --name new" in after["How to reproduce"]


def test_a_card_calibrated_twice_has_each_section_once(facts: RecalibrationFacts) -> None:
    once = recalibrated_card(SHIPPED[0], facts)
    twice = recalibrated_card(once, facts)
    assert list(sections(twice)) == list(sections(once))
    assert twice.count("Recalibrated without training") == 1
    assert twice.count("true no more") == 1
    assert twice.count("quarterturn calibrate --model") == 2


def test_a_model_without_a_card_gets_one(facts: RecalibrationFacts) -> None:
    card = sections(recalibrated_card("", facts))
    assert list(card) == ["", "Calibration", "Old and new calibration", "How to reproduce"]
    assert card[""].startswith("# new\n\nRecalibrated")
    assert "| file | `model.onnx`, 2.00 MB, fp32, `sha256:newfile` |" in card[""]


def test_text_of_somebodys_own_stays(facts: RecalibrationFacts) -> None:
    own = "# mine\n\nMy words.\n\n## Notes\n\n```sh\n## no heading\n# nor this\n```\n\n## Limits\n\nNone.\n"
    card = sections(recalibrated_card(own, facts))
    assert card["Notes"].strip() == "```sh"
    text = recalibrated_card(own, facts)
    assert "My words." in text
    assert "```sh\n## no heading\n# nor this\n```" in text
    assert "# mine" not in text
