"""Accuracy under common corruptions (Section 3.2, Figure 3): the part 'corruptions' of evaluation.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from serving.graphs.providers import ProviderChoice
from training.corruptions.catalog import CORRUPTIONS, SEVERITIES, TEST
from training.corruptions.layout import CorruptedImages, open_corrupted_images
from training.data.image_set import DataError, ImageSet
from training.data.splits import share_of_each_class
from training.graph_runner import GraphRunner
from training.onnx_graph import scorer_graph
from training.progress import track
from training.recipe_tables.corruptions import CorruptionSettings
from training.scorer import ClassifierScorer

Section = dict[str, Any]


def corrupted_test_images(
    settings: CorruptionSettings, root: Path, test: ImageSet, size: int
) -> CorruptedImages | None:
    """Return the corrupted images that ``settings`` name; None if the data root has none.

    Raises DataError if their files do not fit together, or were made of images with other classes or labels than
    ``test``, the clean test images.
    """
    found = open_corrupted_images(root / settings.data, size, len(test.classes))
    if found is None or found.mark is None:
        return found
    source = found.mark["source"]
    if tuple(source.get("classes", ())) != test.classes:
        raise DataError(f"{found.folder} was made of images of other classes than {test.name}; make it again")
    if source.get("digest") == test.digest and source.get("count") == len(test):
        same = np.array_equal(found.labels, test.labels)
        if not same:
            raise DataError(f"the labels in {found.folder} are not those of the images it was made of; make it again")
    return found


def evaluate_corruptions(
    network: nn.Module,
    settings: CorruptionSettings,
    corrupted: CorruptedImages | None,
    size: int,
    device: ProviderChoice = "auto",
) -> Section:
    """Return the accuracy of ``network``, on upright views, of each corruption and severity; fractions.

    Keys: data; origin ('published', 'generated', or None if there are none); generated (what made them, of what);
    available and count (images a corruption and severity); accuracy: name -> {'severities': five, 'mean'} of each
    corruption there; accuracy_mean over them (all 19 is what the paper averages) and accuracy_mean_test over those of
    the 15 test corruptions, None where there are none; missing: the names of the others.
    """
    accuracy = {} if corrupted is None else _accuracies(network, settings, corrupted, size, device)
    means = {name: found["mean"] for name, found in accuracy.items()}
    available = 0 if corrupted is None else len(corrupted.labels)
    return {
        "data": settings.data,
        "origin": None if corrupted is None else "published" if corrupted.mark is None else "generated",
        "generated": None if corrupted is None or corrupted.mark is None else _provenance(corrupted.mark),
        "available": available,
        "count": 0 if corrupted is None else len(share_of_each_class(corrupted.labels, settings.limit)),
        "accuracy": accuracy,
        "accuracy_mean": _mean(list(means.values())),
        "accuracy_mean_test": _mean([means[name] for name in TEST if name in means]),
        "missing": list(CORRUPTIONS) if corrupted is None else corrupted.missing,
    }


def _accuracies(
    network: nn.Module, settings: CorruptionSettings, corrupted: CorruptedImages, size: int, device: ProviderChoice
) -> dict[str, Section]:
    # The classifier reads the upright view alone; the rotation head's three other views would cost four times as much.
    upright = ClassifierScorer(network, None, "msp").eval()
    runner = GraphRunner(scorer_graph(upright, size).SerializeToString(), upright.views, device)
    chosen = share_of_each_class(corrupted.labels, settings.limit)
    labels = corrupted.labels[chosen]

    def accuracy(name: str, severity: int) -> float:
        images = corrupted.images(name, severity)
        right = 0
        for start in range(0, len(chosen), runner.batch):
            batch = slice(start, start + runner.batch)
            probabilities = runner.run(np.ascontiguousarray(images[chosen[batch]]))["probabilities"]
            right += int((probabilities.argmax(axis=1) == labels[batch]).sum())
        return right / len(chosen)

    places = [(name, severity) for name in corrupted.there for severity in SEVERITIES]
    found = {place: accuracy(*place) for place in track(places, "scoring corruptions", len(places))}
    table: dict[str, Section] = {}
    for name in corrupted.there:
        severities = [found[name, severity] for severity in SEVERITIES]
        table[name] = {"severities": severities, "mean": float(np.mean(severities))}
    return table


def _provenance(mark: dict[str, Any]) -> dict[str, Any]:
    kept: Section = {key: mark[key] for key in ("generator", "version", "seed") if key in mark}
    return {**kept, "source": {key: value for key, value in mark["source"].items() if key != "classes"}}


def _mean(accuracies: list[float]) -> float | None:
    return float(np.mean(accuracies)) if accuracies else None
