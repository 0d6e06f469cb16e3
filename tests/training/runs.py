"""Small data roots and run folders for the tests of evaluation and export: random weights, real files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.training.command_line import TINY
from training.networks import build_network
from training.recipe import Recipe
from training.recipe_files import load_recipe
from training.run_folder import RunFolder, heads_of
from training.training_run import in_distribution, load_split, training_indices

CLASSES = ("cat", "dog", "horse")


def tiny(recipe: str = "own-classifier-32", *more: str) -> Recipe:
    """Return a recipe at scale smoke that trains for four steps on the photos of ``data_root``."""
    return load_recipe(recipe, "smoke", [*TINY, "optimiser.epochs=2", *more])


def write_images(folder: Path, count: int, brightness: int, seed: int) -> None:
    """Write ``count`` noisy 32-pixel PNG files around ``brightness``."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for index in range(count):
        pixels = np.clip(generator.normal(brightness, 40, (32, 32, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03}.png")


def make_data_root(root: Path) -> Path:
    """A data set 'cifar10' of three classes, 20 training and 8 test images each, and 'textures' to tell from it."""
    for place, name in enumerate(CLASSES):
        write_images(root / "cifar10" / "train" / name, 20, 60 * place + 60, seed=place)
        write_images(root / "cifar10" / "test" / name, 8, 60 * place + 60, seed=10 + place)
    write_images(root / "textures" / "test" / "banded", 9, 128, seed=20)
    return root


def make_run(path: Path, data_root: Path, recipe: str, *overrides: str) -> RunFolder:
    """A run folder as training leaves one, but with the network's random weights and step 3."""
    resolved = load_recipe(recipe, "smoke", list(overrides))
    run = RunFolder(path)
    images = load_split(resolved, data_root, "train")
    normal = in_distribution(resolved, images)
    kept, held_out = training_indices(resolved, normal)
    run.write_json("recipe.json", resolved.settings())
    run.write_json(
        "training.json",
        {
            "data": {
                "name": images.name,
                "split": "train",
                "digest": images.digest,
                "available": len(normal),
                "count": len(kept),
                "in_class": resolved.data.in_class,
            },
            "held_out": len(held_out),
            "classes": list(images.classes),
            "skipped": [],
            "step": 3,
            "steps": 3,
            "finished": True,
            "views": 1234,
            "seconds": 90.0,
            "device": "CPU",
        },
    )
    environment = {"libraries": {"torch": torch.__version__}, "source_revision": "abc", "seed": 5}
    run.write_json("environment.json", {**environment, "data_root": str(data_root)})
    save_network(run, resolved, len(images.classes), step=3)
    return run


def save_network(run: RunFolder, recipe: Recipe, classes: int, step: int) -> None:
    """Put freshly drawn weights, those of seed ``step``, into the run's checkpoint."""
    torch.manual_seed(step)
    network = build_network(recipe.network, heads_of(recipe, classes))
    run.save_checkpoint({"network": network.state_dict(), "step": step, "recipe": json.dumps(recipe.settings())})
