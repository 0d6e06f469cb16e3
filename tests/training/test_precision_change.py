"""What a precision changes: both graphs on the same images, each kind of figure, and where the limit is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from serving.graphs.manifest import METADATA_KEY, Calibration, parse_manifest
from tests.graphs import build_graph
from tests.training.runs import make_data_root, write_images
from training import precision_change
from training.data.image_set import DataError
from training.data.ood import load_ood
from training.graph_runner import GraphRunner
from training.metrics import auroc
from training.onnx_graph import ExportError
from training.precision_change import PrecisionChange, measure_change
from training.recipe import Recipe
from training.recipe_files import load_recipe
from training.training_run import fitting_of, load_split

CHANGE = PrecisionChange(
    precision="int8",
    fp32={"accuracy": 0.83, "ood_auroc_mean": 0.9},
    lowered={"accuracy": 0.82, "ood_auroc_mean": 0.91},
    set_auroc={"gaussian": 0.91},
    false_alarm={"alpha": 0.05, "rate": 0.04, "count": 100},
    score_difference=0.1,
    test_images=100,
    max_loss=0.01,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data_root(tmp_path_factory.mktemp("data"))


def upside_down(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give the graph the score 1 - s: what it held for strange it now holds for normal."""
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, np.float32), "one"))
    for node in model.graph.node:
        node.output[:] = ["as_before" if name == "anomaly_score" else name for name in node.output]
    model.graph.node.append(onnx.helper.make_node("Sub", ["one", "as_before"], ["anomaly_score"]))
    return model


def not_a_number(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give the graph a score of 0/0 for every image."""
    for node in model.graph.node:
        node.output[:] = ["as_before" if name == "anomaly_score" else name for name in node.output]
    model.graph.node.append(onnx.helper.make_node("Sub", ["as_before", "as_before"], ["nothing"]))
    model.graph.node.append(onnx.helper.make_node("Div", ["nothing", "nothing"], ["anomaly_score"]))
    return model


def runner_of(model: onnx.ModelProto) -> GraphRunner:
    return GraphRunner(model.SerializeToString(), 4, "cpu")


def calibration_of(model: onnx.ModelProto) -> Calibration:
    return parse_manifest(next(entry.value for entry in model.metadata_props if entry.key == METADATA_KEY)).calibration


def change_of(recipe: Recipe, root: Path, **options: Any) -> PrecisionChange:
    """Compare a graph built by hand with itself upside down."""
    reference, lowered = build_graph(**options), upside_down(build_graph(**options))
    return measure_change("int8", runner_of(reference), runner_of(lowered), recipe, root, calibration_of(reference))


def test_a_model_of_one_class_is_judged_by_the_other_classes_and_the_sets(root: Path) -> None:
    recipe = load_recipe("cifar10-one-class-transformations", "smoke", ['evaluation.ood=["textures"]'])
    change = change_of(recipe, root, formula="transformation")
    test = load_split(recipe, root, "test")
    scores = runner_of(build_graph(formula="transformation")).run(test.pixels.read(0, len(test)))["anomaly_score"]
    horse = test.labels == test.classes.index("horse")
    textures = load_ood(root, "textures", fitting_of(recipe), count=round(0.2 * horse.sum()))
    assert textures is not None
    outside = runner_of(build_graph(formula="transformation")).run(textures.images.pixels.read(0, 9))["anomaly_score"]
    assert change.fp32 == {
        "one_class_auroc": pytest.approx(auroc(scores[horse], scores[~horse])),
        "ood_auroc_mean": pytest.approx(auroc(scores[horse], outside)),
    }
    assert change.lowered == {name: pytest.approx(1 - value) for name, value in change.fp32.items()}
    assert change.set_auroc == {"textures": change.lowered["ood_auroc_mean"]}
    assert change.score_difference == pytest.approx(np.abs(1 - 2 * scores).mean(), rel=1e-4)
    assert change.false_alarm["count"] == horse.sum()


def test_a_classifier_is_judged_by_accuracy_and_the_sets(root: Path) -> None:
    recipe = load_recipe("cifar10-rotations", "smoke", ['evaluation.ood=["textures", "nowhere", "rademacher"]'])
    change = change_of(recipe, root)
    assert change.fp32.keys() == {"accuracy", "ood_auroc_mean"}
    assert change.lowered["accuracy"] == change.fp32["accuracy"]
    assert change.set_auroc.keys() == {"textures", "rademacher"}
    assert change.lowered["ood_auroc_mean"] == pytest.approx(np.mean(list(change.set_auroc.values())))


def test_a_set_whose_images_were_the_outliers_does_not_count(root: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "tiny-imagenet" / "test" / "n01", 5, 128, seed=1)
    for name in ("cifar10", "textures"):
        (tmp_path / name).symlink_to(root / name)
    recipe = load_recipe("cifar10-rotations-oe", "smoke", ['evaluation.ood=["textures", "tiny-imagenet"]'])
    assert recipe.outliers is not None
    assert recipe.outliers.data == "tiny-imagenet"
    assert change_of(recipe, tmp_path).set_auroc.keys() == {"textures"}


def test_so_many_test_images_at_most_of_each_class_its_share(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("cifar10-rotations", "smoke", ["evaluation.ood=[]", "evaluation.limit=0"])
    assert change_of(recipe, root).test_images == 24
    monkeypatch.setattr(precision_change, "TEST_IMAGES", 6)
    assert change_of(recipe, root).test_images == 6
    fewer = recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update={"limit": 3})})
    assert change_of(fewer, root).test_images == 3


def test_without_anything_to_measure_with_it_is_refused(root: Path) -> None:
    recipe = load_recipe("cifar10-transformations", "smoke", ["evaluation.ood=[]"])
    with pytest.raises(ExportError, match="nothing says what int8 loses"):
        change_of(recipe, root, formula="transformation")


def with_test_images_of(root: Path, folder: Path, *names: str) -> Path:
    """Make a data root in ``folder`` whose test images are those of some classes of ``root``."""
    (folder / "cifar10" / "test").mkdir(parents=True)
    (folder / "cifar10" / "train").symlink_to(root / "cifar10" / "train")
    for name in names:
        (folder / "cifar10" / "test" / name).symlink_to(root / "cifar10" / "test" / name)
    return folder


@pytest.mark.parametrize("ood", ["[]", '["gaussian"]'])
def test_without_a_normal_test_image_it_is_refused(root: Path, tmp_path: Path, ood: str) -> None:
    others = with_test_images_of(root, tmp_path, "cat", "dog")
    recipe = load_recipe("cifar10-one-class-transformations", "smoke", [f"evaluation.ood={ood}"])
    with pytest.raises(DataError, match="hold none of class 'horse', which is what is normal: put some into cifar10/t"):
        change_of(recipe, others, formula="transformation")


def test_normal_images_alone_are_judged_by_the_sets(root: Path, tmp_path: Path) -> None:
    normal = with_test_images_of(root, tmp_path, "horse")
    recipe = load_recipe("cifar10-one-class-transformations", "smoke", ['evaluation.ood=["gaussian"]'])
    assert set(change_of(recipe, normal, formula="transformation").fp32) == {"ood_auroc_mean"}


def test_scores_that_are_not_finite_are_refused(root: Path) -> None:
    recipe = load_recipe("cifar10-rotations", "smoke", ["evaluation.ood=[]"])
    reference, lowered = build_graph(), not_a_number(build_graph())
    with pytest.raises(ExportError, match="at fp16 24 of 24 anomaly scores of the test images are not finite"):
        measure_change("fp16", runner_of(reference), runner_of(lowered), recipe, root, calibration_of(reference))


def test_a_loss_of_the_limit_is_allowed_and_more_is_not() -> None:
    CHANGE.check()
    with pytest.raises(ExportError, match=r"int8 loses more than 0\.009 .*: accuracy from 0\.8300 to 0\.8200;"):
        replace(CHANGE, max_loss=0.009).check()
    both = replace(CHANGE, lowered={"accuracy": 0.5, "ood_auroc_mean": 0.6})
    with pytest.raises(ExportError, match=r"accuracy from .*, mean AUROC of sets from 0\.9000 to 0\.6000;"):
        both.check()


def test_the_manifest_holds_the_graphs_own_figures_and_the_change() -> None:
    found = CHANGE.metrics()
    assert (found["accuracy"], found["ood_auroc_mean"], found["false_alarm_rate"]) == (0.82, 0.91, 0.04)
    assert found["precision_change"]["fp32"] == CHANGE.fp32
    assert found["precision_change"]["change"] == {
        "accuracy": pytest.approx(-0.01),
        "ood_auroc_mean": pytest.approx(0.01),
    }
    assert "one_class_auroc" not in found
    assert "false_alarm_rate" not in replace(CHANGE, false_alarm={"alpha": 0.05, "rate": None, "count": 0}).metrics()
