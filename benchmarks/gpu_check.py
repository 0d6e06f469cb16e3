"""Training and scoring on a GPU, checked in minutes: `make gpu-check`.

    python -m benchmarks.gpu_check [RECIPE ...]

Of each kind of training there is a recipe for, or of the recipes named: a short run in mixed precision on made-up
images, its views per second, its evaluation, and its exported graph on the CUDA provider beside the CPU's. Exit status:
0 all well, 1 something is not, 2 if a recipe named is none of these, NO_GPU (3) if there is none to check.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from serving.graphs.providers import CUDA, open_session
from training.evaluation import evaluate_run
from training.graph_precision import TOLERANCES, precision_graph
from training.graph_runner import GraphRunner
from training.onnx_graph import scorer_graph
from training.recipe import Recipe
from training.recipe_files import all_recipes, load_recipe
from training.run_folder import RunFolder, load_network
from training.scorer import build_scorer
from training.training_run import load_split, train_recipe

FloatArray = NDArray[np.float32]

NO_GPU = 3
TOLERANCE = 2e-3  # relative, of float32 convolutions in another order
CLASSES = ("disc", "square", "stripes")
CHANGES = ["trainer.precision=bf16-mixed", 'evaluation.ood=["gaussian"]']


def main() -> int:
    """Run the check and return its exit status."""
    recipes = kinds_of_training()
    named = sys.argv[1:]
    if unknown := set(named) - {recipe.name for recipe in recipes}:
        print(f"gpu-check: {', '.join(sorted(unknown))}: not among {', '.join(recipe.name for recipe in recipes)}")
        return 2
    if not torch.cuda.is_available():
        print("gpu-check: no CUDA GPU is visible to PyTorch; nothing was checked")
        return NO_GPU
    print(f"gpu-check: {torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        for recipe in [recipe for recipe in recipes if not named or recipe.name in named]:
            write_images(root / recipe.data.name)
            if recipe.outliers is not None:
                write_images(root / recipe.outliers.data)
            try:
                print(f"{recipe.name}: {check(recipe, root, Path(folder) / recipe.name)}")
            except Exception as error:
                failed.append(recipe.name)
                print(f"{recipe.name}: FAILED: {type(error).__name__}: {error}")
    print("gpu-check: " + (f"failed: {', '.join(failed)}" if failed else "all well"))
    return 1 if failed else 0


def kinds_of_training() -> list[Recipe]:
    """Return a recipe, at smoke scale, of each combination of objective and further parts that recipes make."""
    chosen: dict[tuple[object, ...], Recipe] = {}
    for shipped in all_recipes("smoke"):
        if shipped.data.size > 32 or shipped.name.startswith("own-"):
            continue
        chosen.setdefault(kind_of_training(shipped), shipped)
    return [load_recipe(recipe.name, "smoke", changes_for(recipe)) for recipe in chosen.values()]


def kind_of_training(recipe: Recipe) -> tuple[object, ...]:
    """Return what tells one kind of training from another: objective, attack, and what is trained beside it."""
    objective = recipe.objective
    attack = getattr(objective, "attack", None)
    return (
        objective.kind,
        getattr(objective, "rotation_weight", 1) > 0,
        getattr(attack, "form", None),
        getattr(attack, "rotation_weight", 0) > 0,
        recipe.outliers is not None,
        None if recipe.labels is None else recipe.labels.correction,
        recipe.pretraining is not None,
    )


def changes_for(recipe: Recipe) -> list[str]:
    """Return the settings that make a recipe run on the made-up images."""
    changes = list(CHANGES)
    if recipe.data.in_class is not None:
        changes.append(f"data.in_class={CLASSES[0]}")
    if recipe.outliers is not None:
        changes.append("outliers.left_out=[]")
    return changes


def check(recipe: Recipe, root: Path, folder: Path) -> str:
    """Train, evaluate and score on the GPU; returns what was measured. Raises AssertionError, and what those raise."""
    run = RunFolder(folder)
    outcome = train_recipe(recipe, root, run)
    assert outcome.finished, "the training stopped early"
    assert "CPU" not in outcome.device, f"it trained on {outcome.device}"
    evaluation = evaluate_run(run, root, device="cuda")
    assert "CUDA" in evaluation["conditions"]["device"], "it was evaluated on the CPU"
    network, _ = load_network(run)
    scorer = build_scorer(network, recipe)
    model = scorer_graph(scorer, recipe.data.size)
    half = precision_graph(model, network, recipe, "fp16", root, run.training_record()).SerializeToString()
    graph = model.SerializeToString()
    images = load_split(recipe, root, "test")
    on_cpu = GraphRunner(graph, scorer.views, "cpu").score(images, "scoring on the CPU")
    measured = [f"{outcome.views / outcome.seconds:.0f} views/s trained"]
    for name, made, tolerance in (("fp32", graph, TOLERANCE), ("fp16", half, TOLERANCES["fp16"])):
        assert open_session(made, "cuda").get_providers()[0] == CUDA
        began = time.monotonic()
        on_gpu = GraphRunner(made, scorer.views, "cuda").score(images, f"scoring on the GPU, {name}")
        speed = len(images) * scorer.views / (time.monotonic() - began)
        difference = largest_difference(on_gpu, on_cpu)
        assert difference <= tolerance, f"the {name} graph on the GPU is {difference:.1e} off the CPU's"
        measured.append(f"{speed:.0f} scored in {name} (start included; within {difference:.1e} of the CPU)")
    return ", ".join(measured)


def largest_difference(given: Mapping[str, FloatArray], reference: Mapping[str, FloatArray]) -> float:
    """Return the largest |difference| / max(1, |reference|) of all outputs."""
    return max(
        float(np.max(np.abs(given[name] - values) / np.maximum(1, np.abs(values))))
        for name, values in reference.items()
    )


def write_images(folder: Path, per_class: int = 40) -> None:
    """Write class folders of three made-up patterns, 32 pixels a side, if they are not there."""
    if folder.exists():
        return
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[0:32, 0:32] / 31 - 0.5
    shapes = (rows**2 + columns**2 < 0.1, np.maximum(abs(rows), abs(columns)) < 0.3, np.sin(30 * rows) > 0)
    for split in ("train", "test"):
        for name, shape in zip(CLASSES, shapes, strict=True):
            (folder / split / name).mkdir(parents=True)
            for index in range(per_class):
                low, high = generator.uniform(0, 255, (2, 3))
                pixels = np.where(shape[..., None], low, high) + generator.normal(0, 10, (32, 32, 3))
                image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                image.save(folder / split / name / f"{index}.png")


if __name__ == "__main__":
    sys.exit(main())
