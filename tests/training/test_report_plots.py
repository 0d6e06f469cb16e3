"""What a plot shows, and what it leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.report_runs import mean_auroc, write_run
from training.report.collect import Collection, collect
from training.report.document import Drawing, build_document
from training.report.plots import PLOTS, corruption_bars, label_corruption, roc_curves, score_histograms
from training.score_curves import score_curves


def corruptions(**accuracies: float) -> dict[str, Any]:
    accuracy = {name: {"severities": [value] * 5, "mean": value} for name, value in accuracies.items()}
    return {"origin": "generated", "count": 70, "accuracy": accuracy, "accuracy_mean": 0.5, "missing": []}


def test_a_corruption_that_a_row_lacks_is_no_bar(tmp_path: Path) -> None:
    """A bar of height 0 would read as no accuracy at all."""
    write_run(tmp_path / "a", "cifar10-robustness-normal", corruptions=corruptions(fog=0.5, frost=0.6))
    write_run(tmp_path / "b", "cifar10-robustness-rotations", corruptions=corruptions(snow=0.7, fog=0.4))
    figure = corruption_bars(collect(tmp_path).systems)
    assert figure is not None
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["fog", "frost", "snow"]
    bars = {round(bar.get_x() + bar.get_width() / 2, 1): round(bar.get_height()) for bar in axis.patches}
    assert bars == {-0.2: 50, 0.8: 60, 2.2: 70, 0.2: 40}


def test_panels_show_the_same_range_of_strengths(tmp_path: Path) -> None:
    """Of one strength alone, as CIFAR-100 has at scale cpu, a range of its own would be a few hundredths wide."""
    for strength in (0.0, 0.8):
        write_run(tmp_path / f"a{strength}", "cifar10-labels-none", [f"labels.strength={strength}"])
    write_run(tmp_path / "b", "cifar100-labels-none", ["labels.strength=0.4"])
    figure = label_corruption(collect(tmp_path).systems)
    assert figure is not None
    assert [axis.get_title() for axis in figure.axes] == ["cifar10", "cifar100"]
    assert [axis.get_xlim() for axis in figure.axes] == [(-0.03, 1.03)] * 2


def curves(*sets: str, seed: int = 0) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    return score_curves(generator.normal(0, 1, 60), {name: generator.normal(1, 1, 30) for name in sets})


@pytest.fixture
def scored(tmp_path: Path) -> Collection:
    """A row without curves in its first seed, and one that was trained on one of the two sets."""
    write_run(tmp_path / "a", "cifar10-baseline", **mean_auroc("msp", 0.7))
    write_run(tmp_path / "b", "cifar10-baseline", seed=1, curves=curves("svhn", "tiny"), **mean_auroc("msp", 0.7))
    write_run(tmp_path / "c", "cifar10-rotations", **mean_auroc("kl_rotation", 0.7))
    exposed = {"curves": curves("svhn", "tiny"), "exposed": ["tiny"]}
    write_run(tmp_path / "d", "cifar10-rotations-oe", **mean_auroc("kl_rotation", 0.7), **exposed)
    return collect(tmp_path)


def test_a_set_that_a_row_was_trained_on_is_marked(scored: Collection) -> None:
    figure = roc_curves(scored.systems)
    assert figure is not None
    styles = {
        axis.get_title().splitlines()[0]: {str(line.get_label()): line.get_linestyle() for line in axis.lines[:-1]}
        for axis in figure.axes
    }
    assert styles["svhn"] == {"Baseline": "-", "Rotations + Outlier Exposure": "-"}
    assert styles["tiny"] == {"Baseline": "-", "Rotations + Outlier Exposure": "--"}
    assert [axis.get_title() for axis in figure.axes] == ["svhn", "tiny\n(dashed: trained on)"]


def test_scores_are_of_sets_that_no_row_was_trained_on(scored: Collection) -> None:
    """Of 30 images of svhn in 60 and 30 a bin, none of tiny, in the baseline's panel too."""
    figure = score_histograms(scored.systems)
    assert figure is not None
    baseline = figure.axes[0]
    stored = next(run for run in scored.systems[0].runs if run.seed == 1).evaluation["curves"]["counts"]["svhn"]
    _, outside = baseline.patches
    assert outside.get_label() == "out of distribution"
    assert outside.get_data().values == pytest.approx(np.asarray(stored) / 30)  # type: ignore[attr-defined]


def test_a_caption_says_which_seed_and_which_rows_are_not_there(scored: Collection) -> None:
    (section,) = [part for part in build_document(scored, "cpu").sections if part.title.startswith("Figure 5")]
    roc, scores = [part for part in section.parts if isinstance(part, Drawing)]
    for drawing in (roc, scores):
        assert "of the first seed of each row alone" in drawing.caption
        assert drawing.caption.endswith("Not in the evaluations of: Rotations (Ours).")


@pytest.mark.parametrize("run", [True, False])
def test_what_was_run_without_curves_is_not_called_not_run(tmp_path: Path, run: bool) -> None:
    if run:
        write_run(tmp_path / "a", "cifar10-baseline", **mean_auroc("msp", 0.7))
    (section,) = [part for part in build_document(collect(tmp_path), "cpu").sections if "Figure 5" in part.title]
    said = [part for part in section.parts if isinstance(part, str) and "ROC curves" in part]
    assert len(said) == 1
    assert ("not in these evaluations; `quarterturn evaluate RUN" in said[0]) == run
    assert said[0].endswith("not run.") != run


def test_every_plot_over_seeds_says_of_which() -> None:
    for kinds in PLOTS.values():
        for kind in kinds:
            assert "seed" in kind.caption
