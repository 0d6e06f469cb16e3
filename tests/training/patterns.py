"""Small images with a class and a way up: three patterns, none of which looks the same after a quarter turn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.data.image_set import ImageSet, InMemory

CLASSES = ("arrow", "corner", "ramp")


def pattern(label: int, index: int, size: int = 32) -> NDArray[np.uint8]:
    """Return image ``index`` of class ``label``: uint8 [size, size, 3], in its own colours and with its own noise."""
    generator = np.random.default_rng([label, index])
    rows, columns = np.mgrid[0:size, 0:size] / (size - 1)
    shape = (
        rows > 2 * np.abs(columns - 0.5),  # a wedge that points up
        (rows < 0.5) & (columns < 0.5),  # a bright quarter, top left
        rows * (0.5 + 0.5 * np.sin(8 * np.pi * columns)),  # upright stripes, brighter below
    )[label]
    low, high = np.sort(generator.uniform(30, 220, (2, 3)), axis=0)
    colours = low + shape[..., None] * (high + 30 - low)
    noisy = colours + generator.normal(0, 8, (size, size, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def write_class_folders(folder: Path, per_class: int, size: int = 32, first: int = 0, kind: str = "png") -> None:
    """Write ``folder/CLASS/INDEX.png``, ``per_class`` images of each class, the first of them image ``first``."""
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for index in range(first, first + per_class):
            Image.fromarray(pattern(label, index, size)).save(folder / name / f"{index:03}.{kind}")


def image_set(per_class: int, size: int = 32) -> ImageSet:
    """Return ``per_class`` images of each class, in memory."""
    labels = np.repeat(np.arange(len(CLASSES)), per_class)
    array = np.stack([pattern(int(label), index, size) for index, label in enumerate(labels)])
    return ImageSet("photos", "train", CLASSES, labels, InMemory(array), "sha256:" + "0" * 64)
