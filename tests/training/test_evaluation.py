from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from serving.graphs.calibration import p_values
from tests.training.patterns import image_set
from tests.training.runs import make_data_root, make_run, save_network
from training.data.image_set import DataError
from training.data.ood import load_ood
from training.data.splits import halves
from training.evaluation import ALPHA, current_evaluation, evaluate_run, evaluated_indices, evaluation_summary
from training.evaluation_table import print_evaluation
from training.graph_runner import GraphRunner
from training.metrics import auroc
from training.published import beside_published
from training.recipe_files import load_recipe
from training.run_folder import RunError, RunFolder, load_network
from training.scorer import build_scorer
from training.training_run import calibration_images, fitting_of, load_split

OOD = 'evaluation.ood=["gaussian", "textures", "svhn"]'
EVERYTHING = "evaluation.limit=0"


@pytest.fixture(scope="module")
def cifar_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data_root(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def classifier(cifar_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, dict[str, Any]]:
    run = make_run(tmp_path_factory.mktemp("classifier"), cifar_root, "cifar10-rotations", OOD, EVERYTHING)
    return run, evaluate_run(run, cifar_root, device="cpu")


@pytest.fixture(scope="module")
def horse(cifar_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, dict[str, Any]]:
    run = make_run(tmp_path_factory.mktemp("horse"), cifar_root, "cifar10-one-class-transformations", OOD, EVERYTHING)
    return run, evaluate_run(run, cifar_root, device="cpu")


def torch_outputs(run: RunFolder, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> dict[str, Any]:
    scorer = build_scorer(*load_network(run))
    with torch.inference_mode():
        return {name: value.numpy() for name, value in scorer(torch.from_numpy(pixels)).items()}


def test_the_classifiers_figures_are_those_of_the_module(
    classifier: tuple[RunFolder, dict[str, Any]], cifar_root: Path
) -> None:
    run, evaluation = classifier
    test = load_split(run.recipe(), cifar_root, "test")
    inside = torch_outputs(run, test.pixels.read(0, len(test)))
    assert evaluation["accuracy"] == pytest.approx(np.mean(inside["probabilities"].argmax(1) == test.labels))
    drawn = load_ood(cifar_root, "textures", fitting_of(run.recipe()), 5)
    assert drawn is not None
    outside = torch_outputs(run, drawn.images.pixels.read(0, 5))
    found = evaluation["ood"]["textures"]
    expected = {
        "msp": auroc(-inside["probabilities"].max(1), -outside["probabilities"].max(1)),
        "kl": auroc(-inside["kl_uniform"], -outside["kl_uniform"]),
        "rotation_loss": auroc(inside["rotation_loss"], outside["rotation_loss"]),
        "kl_rotation": auroc(inside["anomaly_score"], outside["anomaly_score"]),
    }
    assert {name: found[name]["auroc"] for name in expected} == pytest.approx(expected, abs=0.02)


def test_sets_are_drawn_one_to_five_and_missing_ones_named(classifier: tuple[RunFolder, dict[str, Any]]) -> None:
    _, evaluation = classifier
    counts = {name: (row["count"], row["available"], row["source"]) for name, row in evaluation["ood"].items()}
    assert counts == {"gaussian": (5, 5, "noise"), "textures": (5, 9, "data")}
    assert evaluation["missing"] == ["svhn"]


def test_means_are_over_the_sets(classifier: tuple[RunFolder, dict[str, Any]]) -> None:
    _, evaluation = classifier
    for metric in ("auroc", "aupr", "fpr95"):
        each = [row["kl_rotation"][metric] for row in evaluation["ood"].values()]
        assert evaluation["ood_mean"]["kl_rotation"][metric] == pytest.approx(sum(each) / 2)


def test_the_file_is_what_was_returned(classifier: tuple[RunFolder, dict[str, Any]]) -> None:
    run, evaluation = classifier
    assert json.loads((run.path / "evaluation.json").read_text()) == evaluation
    assert current_evaluation(run) == evaluation
    assert evaluation["conditions"]["views_per_image"] == 4
    assert evaluation["conditions"]["images_scored"] == 24 + 5 + 5


def test_false_alarms_are_counted_on_test_images(
    classifier: tuple[RunFolder, dict[str, Any]], cifar_root: Path
) -> None:
    run, evaluation = classifier
    images, _ = calibration_images(run.recipe(), cifar_root, run.training_record())
    calibration = torch_outputs(run, images.pixels.read(0, len(images)))["anomaly_score"]
    test = load_split(run.recipe(), cifar_root, "test")
    scores = torch_outputs(run, test.pixels.read(0, len(test)))["anomaly_score"]
    found = evaluation["false_alarm"]
    assert (found["count"], found["calibration_n"]) == (24, len(images))
    assert found["rate"] == pytest.approx(np.mean(p_values(scores, np.sort(calibration)) <= ALPHA))


def test_one_class_is_judged_against_the_other_classes(
    horse: tuple[RunFolder, dict[str, Any]], cifar_root: Path
) -> None:
    run, evaluation = horse
    test = load_split(run.recipe(), cifar_root, "test")
    outputs = torch_outputs(run, test.pixels.read(0, len(test)))
    inside = test.labels == test.classes.index("horse")
    found = evaluation["one_class"]
    assert (found["in_count"], found["out_count"]) == (8, 16)
    scores = outputs["anomaly_score"]
    assert found["transformation"]["auroc"] == pytest.approx(auroc(scores[inside], scores[~inside]), abs=0.02)
    rotation = -outputs["view_probabilities"][..., 0].sum(axis=(1, 2, 3))
    assert found["rotation"]["auroc"] == pytest.approx(auroc(rotation[inside], rotation[~inside]), abs=0.02)
    assert set(found) == {"in_count", "out_count", "transformation", "rotation", "vertical", "horizontal"}


def test_one_class_sets_are_drawn_for_its_own_images(horse: tuple[RunFolder, dict[str, Any]]) -> None:
    _, evaluation = horse
    assert evaluation["ood"]["gaussian"]["count"] == 2
    assert evaluation["in_distribution"]["count"] == evaluation["in_distribution"]["available"] == 8
    assert evaluation["false_alarm"]["count"] == 8
    assert evaluation["accuracy"] is None


@pytest.fixture
def horse_root(cifar_root: Path, tmp_path: Path) -> Path:
    """A copy of the data, whose test images may be changed."""
    return Path(shutil.copytree(cifar_root, tmp_path / "data"))


def test_without_a_normal_test_image_nothing_is_scored(
    horse: tuple[RunFolder, dict[str, Any]], horse_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(horse_root / "cifar10" / "test" / "horse")
    monkeypatch.delattr(GraphRunner, "score")
    with pytest.raises(DataError, match="hold none of class 'horse', which is what is normal: put some into cifar10/t"):
        evaluate_run(horse[0], horse_root, device="cpu")


def test_normal_test_images_alone_are_measured_without_a_figure_of_other_classes(
    horse: tuple[RunFolder, dict[str, Any]], horse_root: Path, tmp_path: Path
) -> None:
    for name in ("cat", "dog"):
        shutil.rmtree(horse_root / "cifar10" / "test" / name)
    run = RunFolder(Path(shutil.copytree(horse[0].path, tmp_path / "run")))
    evaluation = evaluate_run(run, horse_root, device="cpu")
    assert evaluation["one_class"] is None
    assert evaluation["false_alarm"]["count"] == 8
    assert evaluation["ood"]["textures"]["count"] == horse[1]["ood"]["textures"]["count"]
    assert "other classes" not in evaluation["curves"]
    assert {row["measured_percent"] for row in evaluation["published"]} == {None}, "the sets' mean is of no class"
    assert "one_class_auroc" not in evaluation_summary(evaluation)
    stream = io.StringIO()
    print_evaluation(evaluation, Console(file=stream, width=200))
    assert "of 8 normal test images" in stream.getvalue()
    assert "other classes" not in stream.getvalue()


def test_published_figures_stand_beside_measured_ones(horse: tuple[RunFolder, dict[str, Any]]) -> None:
    _, evaluation = horse
    figures = {row["metric"]: row for row in evaluation["published"]}
    assert figures["auroc_horse"]["published_percent"] == 96.5
    measured = evaluation["one_class"]["transformation"]["auroc"]
    assert figures["auroc_horse"]["measured_percent"] == pytest.approx(100 * measured, abs=0.01)
    assert figures["auroc_ship"]["measured_percent"] is None
    assert figures["auroc_mean"]["measured_percent"] is None


def test_the_mean_over_sets_stands_beside_the_papers(classifier: tuple[RunFolder, dict[str, Any]]) -> None:
    _, evaluation = classifier
    figure = next(row for row in evaluation["published"] if row["metric"] == "auroc_mean")
    mean = evaluation["ood_mean"]["kl_rotation"]["auroc"]
    assert figure["measured_percent"] == pytest.approx(100 * mean, abs=0.01)
    assert figure["measured_over"] == "2 of the 8 sets, without rademacher, blobs, svhn, places365, lsun, cifar100"
    stream = io.StringIO()
    print_evaluation(evaluation, Console(file=stream, width=400))
    assert f"measured {figure['measured_percent']:.1f} over 2 of the 8 sets, without rademacher" in stream.getvalue()


@pytest.mark.parametrize(("recipe", "derived"), [("cifar10-trades", True), ("cifar10-adversarial", False)])
def test_a_figure_that_the_paper_does_not_print_is_marked(
    classifier: tuple[RunFolder, dict[str, Any]], recipe: str, derived: bool
) -> None:
    _, evaluation = classifier
    stream = io.StringIO()
    published = beside_published(load_recipe(recipe), evaluation)
    print_evaluation({**evaluation, "published": published}, Console(file=stream, width=400))
    shown = stream.getvalue()
    assert ("accuracy_pgd20: published 51.37* (" in shown) == derived
    assert ("accuracy_pgd20: published 44.8 (" in shown) == (not derived)
    assert ("* follows from printed figures by arithmetic" in shown) == derived


def test_half_of_the_test_images_calibrates_the_other_reports(cifar_root: Path, tmp_path: Path) -> None:
    run = make_run(
        tmp_path,
        cifar_root,
        "cifar10-baseline",
        'evaluation.ood=["svhn"]',
        "evaluation.limit=12",
        "calibration.source=test_half",
    )
    evaluation = evaluate_run(run, cifar_root, device="cpu")
    test = load_split(run.recipe(), cifar_root, "test")
    calibrating, reporting = halves(len(test), run.recipe().calibration.seed)
    reported = np.intersect1d(reporting, evaluated_indices(test, 12))
    scores = torch_outputs(run, test.pixels.read(0, len(test)))["anomaly_score"]
    rate = np.mean(p_values(scores[reported], np.sort(scores[calibrating])) <= ALPHA)
    found = evaluation["false_alarm"]
    assert (found["count"], found["calibration_n"]) == (len(reported), 12)
    assert found["rate"] == pytest.approx(rate)
    assert evaluation["in_distribution"]["count"] == 12
    assert evaluation["in_distribution"]["available"] == 24
    assert evaluation["ood"] == evaluation["ood_mean"] == {}
    assert "ood_auroc_mean" not in evaluation_summary(evaluation)


@pytest.mark.parametrize(("limit", "expected"), [(0, 30), (6, 6), (1, 3), (99, 30)])
def test_a_limit_keeps_each_class_and_its_share(limit: int, expected: int) -> None:
    images = image_set(per_class=10)
    chosen = evaluated_indices(images, limit)
    assert len(chosen) == expected
    assert np.bincount(images.labels[chosen]).tolist() == [expected // 3] * 3
    assert np.array_equal(chosen, np.unique(chosen))


def test_the_summary_is_of_the_graphs_own_score(
    classifier: tuple[RunFolder, dict[str, Any]], horse: tuple[RunFolder, dict[str, Any]]
) -> None:
    _, evaluation = classifier
    summary = evaluation_summary(evaluation)
    assert summary["ood_auroc"]["textures"] == evaluation["ood"]["textures"]["kl_rotation"]["auroc"]
    assert summary["accuracy"] == evaluation["accuracy"]
    assert evaluation_summary(horse[1])["one_class_auroc"] == horse[1]["one_class"]["transformation"]["auroc"]
    assert "accuracy" not in evaluation_summary(horse[1])


def test_an_evaluation_of_an_older_checkpoint_is_not_current(cifar_root: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, cifar_root, "cifar10-baseline")
    assert current_evaluation(run) is None
    run.write_json("evaluation.json", {"conditions": {"checkpoint_step": 3}})
    assert current_evaluation(run) is not None
    save_network(run, run.recipe(), 3, step=4)
    assert current_evaluation(run) is None
    (run.path / "evaluation.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        current_evaluation(run)


def test_an_evaluation_of_other_weights_of_the_same_step_is_not_current(cifar_root: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, cifar_root, "cifar10-baseline", 'evaluation.ood=["gaussian"]')
    evaluation = evaluate_run(run, cifar_root, device="cpu")
    assert current_evaluation(run) == evaluation
    other = run.load_checkpoint()
    other["network"]["heads.linear.label.bias"] += 1
    run.save_checkpoint(other)
    assert current_evaluation(run) is None
    del evaluation["conditions"]["weights"]
    run.write_json("evaluation.json", evaluation)
    assert current_evaluation(run) == evaluation, "an earlier version did not name the weights"


@pytest.mark.parametrize("content", ["[]", '{"conditions": []}', "3", "{}"])
def test_an_evaluation_that_is_none_is_damaged(cifar_root: Path, tmp_path: Path, content: str) -> None:
    run = make_run(tmp_path, cifar_root, "cifar10-baseline")
    (run.path / "evaluation.json").write_text(content)
    with pytest.raises(RunError, match=r"evaluation.json is damaged; evaluate the run again"):
        current_evaluation(run)


def test_a_failed_evaluation_leaves_the_earlier_one(cifar_root: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", cifar_root, "cifar10-baseline", 'evaluation.ood=["odd"]')
    (run.path / "evaluation.json").write_text("{}")
    root = make_data_root(tmp_path / "data")
    (root / "odd").mkdir()
    with pytest.raises(DataError, match="odd is empty"):
        evaluate_run(run, root, device="cpu")
    assert (run.path / "evaluation.json").read_text() == "{}"


def test_names_with_brackets_are_shown_as_they_are(classifier: tuple[RunFolder, dict[str, Any]]) -> None:
    _, evaluation = classifier
    odd, alarms = "[red]defects[/x]", {**evaluation["false_alarm"], "calibration_split": "[bold]half"}
    changed = {"ood": {odd: evaluation["ood"]["textures"]}, "exposed": [odd], "missing": ["[x]"], "false_alarm": alarms}
    stream = io.StringIO()
    print_evaluation({**evaluation, **changed}, Console(file=stream, width=200))
    shown = stream.getvalue()
    assert f" {odd} " in shown
    for line in (f"{odd} is not held out", "not measured: [x]", "[bold]half"):
        assert line in shown


@pytest.mark.parametrize("which", ["classifier", "horse"])
def test_the_table_shows_figures_and_what_is_missing(which: str, request: pytest.FixtureRequest) -> None:
    _, evaluation = request.getfixturevalue(which)
    stream = io.StringIO()
    print_evaluation(evaluation, Console(file=stream, width=200))
    shown = stream.getvalue()
    name = evaluation["score"]
    assert f"{100 * evaluation['ood']['textures'][name]['fpr95']:.1f}" in shown
    assert f"{100 * evaluation['ood_mean'][name]['auroc']:.1f}" in shown
    assert "not in the data root, hence not measured: svhn" in shown
    assert ("accuracy" in shown) == (which == "classifier")
    assert ("AUROC of 8 horse test images against 16 of other classes" in shown) == (which == "horse")
