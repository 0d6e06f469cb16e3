"""What the training feed costs: views per second of the trainer against a bare forward and backward loop.

The bare loop runs the same network and batch on views already in memory, with the same losses but no optimiser, feed,
augmentation, view making or log. Contestants alternate; the ratio of each round is printed: it should be 0.9 or more.

    python -m benchmarks.feed [--steps 12] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from training.data.image_set import ImageSet, InMemory
from training.networks import build_network, network_name
from training.objectives.build import build_objective
from training.recipe import Recipe
from training.recipe_files import load_recipe
from training.run_folder import RunFolder
from training.trainer import train

CASES = [
    ("cifar10-rotations", ["network.depth=16", "network.width=1", "optimiser.batch=64"]),
    ("cifar10-rotations", ["network.depth=16", "network.width=2", "optimiser.batch=64"]),
    ("cifar10-one-class-transformations", ["network.depth=16", "network.width=1", "optimiser.batch=32"]),
]


def images(recipe: Recipe, steps: int) -> ImageSet:
    count = recipe.optimiser.batch * steps
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (count, recipe.data.size, recipe.data.size, 3), np.uint8)
    classes = tuple(f"class-{i}" for i in range(10))
    return ImageSet("noise", "train", classes, generator.integers(0, 10, count), InMemory(pixels), "sha256:none")


def trainer_speed(recipe: Recipe, steps: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        run.path.mkdir()
        train(recipe, images(recipe, steps), run, seed=0)
        lines = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    return statistics.median(line["views_per_second"] for line in lines[1:])


def bare_speed(recipe: Recipe, steps: int) -> float:
    objective = build_objective(recipe, 10)
    network = build_network(recipe.network, objective.heads).to(memory_format=torch.channels_last)
    count = recipe.optimiser.batch * objective.views_per_image
    size = recipe.data.size
    views = torch.rand(count, 3, size, size).to(memory_format=torch.channels_last)
    targets = {head: torch.randint(classes, (count,)) for head, classes in objective.heads.items()}
    speeds = []
    for _ in range(steps):
        started = time.perf_counter()
        network.zero_grad(set_to_none=True)
        logits = network(views)
        torch.stack([functional.cross_entropy(logits[head], targets[head]) for head in targets]).sum().backward()
        speeds.append(count / (time.perf_counter() - started))
    return statistics.median(speeds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, float32, channels-last")
    print(f"{arguments.rounds} rounds of {arguments.steps} steps, alternating; medians of views per second\n")
    print("| recipe | network | views a step | trainer | bare | trainer / bare (min to max) |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, changes in CASES:
        overrides = [*changes, "optimiser.epochs=1", "trainer.log_every=1", "network.dropout=0.0"]
        recipe = load_recipe(name, "cpu", overrides)
        rounds = [
            (trainer_speed(recipe, arguments.steps), bare_speed(recipe, arguments.steps))
            for _ in range(arguments.rounds)
        ]
        trainer, bare = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratios = [one / other for one, other in rounds]
        views = recipe.optimiser.batch * build_objective(recipe, 10).views_per_image
        print(
            f"| {name} | {network_name(recipe.network)} | {views} | {trainer:.0f} | {bare:.0f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )


if __name__ == "__main__":
    main()
