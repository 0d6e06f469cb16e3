"""The check for machines with a GPU, as far as it goes without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu_check import CLASSES, NO_GPU, kinds_of_training, write_images
from training.training_run import load_split

ROOT = Path(__file__).parents[2]


def test_without_a_gpu_it_says_so_with_a_status_of_its_own() -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.gpu_check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == NO_GPU == 3
    assert "no CUDA GPU" in done.stdout


def test_it_covers_each_kind_of_training_once() -> None:
    names = [recipe.name for recipe in kinds_of_training()]
    kinds = {recipe.objective.kind for recipe in kinds_of_training()}
    assert {"classification", "adversarial", "trades", "transformations"} <= kinds
    assert "cifar10-rotations-oe" in names
    adversarial = [name for name in names if name.startswith("cifar10-adversarial")]
    assert sorted(adversarial) == [  # without rotations, and all three forms of the attack with them
        "cifar10-adversarial",
        "cifar10-adversarial-rotations",
        "cifar10-adversarial-rotations-classifier",
        "cifar10-adversarial-rotations-joint",
    ]
    assert {"cifar10-trades", "cifar10-trades-rotations"} <= set(names)
    assert len(names) == len(set(names))
    assert {recipe.trainer.precision for recipe in kinds_of_training()} == {"bf16-mixed"}


def test_a_recipe_that_it_does_not_check_is_refused() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu_check", "cifar10-normal", "cifar10-nothing"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stdout.startswith("gpu-check: cifar10-nothing: not among cifar10-")


def test_its_images_suit_its_recipes(tmp_path: Path) -> None:
    recipe = kinds_of_training()[0]
    write_images(tmp_path / recipe.data.name, per_class=2)
    assert load_split(recipe, tmp_path, "test").classes == CLASSES
