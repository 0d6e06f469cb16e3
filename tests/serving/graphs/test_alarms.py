from __future__ import annotations

from dataclasses import replace

import pytest

from serving.graphs.alarms import alpha_warnings, calibration_warnings
from serving.graphs.graph import Graph


def test_an_alpha_that_can_never_fire_is_warned_of(classifier: Graph, one_class: Graph) -> None:
    assert alpha_warnings([classifier], 0.01) == []
    assert alpha_warnings([classifier, one_class], 0.02) == []
    (warning,) = alpha_warnings([classifier], 0.0099)
    assert warning.startswith("colours can never raise the alarm at alpha 0.0099")
    assert "at least 0.01" in warning
    assert [text.split()[0] for text in alpha_warnings([classifier, one_class], 0.019)] == ["colours", "views"]
    assert "at least 0.02" in alpha_warnings([classifier, one_class], 0.019)[0]


@pytest.mark.parametrize("n", [6, 99, 2999, 5000, 10_000])
def test_the_alpha_that_a_warning_names_is_one_that_can_fire(classifier: Graph, n: int) -> None:
    calibration = classifier.manifest.calibration.model_copy(update={"n": n})
    graph = replace(classifier, manifest=classifier.manifest.model_copy(update={"calibration": calibration}))
    for models in (1, 2, 3):
        text = alpha_warnings([graph] * models, 1e-9)[0]
        assert alpha_warnings([graph] * models, float(text.split()[-1])) == []


def test_graphs_calibrated_on_different_images_are_warned_of(classifier: Graph, one_class: Graph) -> None:
    assert calibration_warnings([]) == []
    assert calibration_warnings([classifier]) == []
    assert calibration_warnings([classifier, one_class]) == []
    calibration = one_class.manifest.calibration.model_copy(update={"data": "camera"})
    other = replace(one_class, manifest=one_class.manifest.model_copy(update={"calibration": calibration}))
    (warning,) = calibration_warnings([classifier, other])
    assert warning.startswith("views is calibrated on 'camera' and colours on 'greys'")
