"""The model card: what an exported model is, what it was trained on, what was measured, and how to make it again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from serving.graphs.manifest import Manifest
from serving.graphs.model_card import calibration_text, card_table, file_cells
from training.data.noise import NOISES
from training.detectors import TITLES
from training.evaluation import METRICS, Evaluation
from training.evaluation_table import METRIC_TITLES, exposures, headlines, main_detectors, percent
from training.precision_change import MAX_LOSS, PrecisionChange
from training.precision_in_words import precision_section
from training.recipe import Recipe
from training.recipe_files import RecipeError, load_recipe, override_of
from training.run_folder import flat_settings

# Images a class in the published (train, test) splits, to say so where a copy is incomplete.
_PUBLISHED_CLASS_SIZE = {"cifar10": {"train": 5000, "test": 1000}, "cifar100": {"train": 500, "test": 100}}
_PUBLISHED_CLASSES = {"cifar10": 10, "cifar100": 100}

_FORMULAS = {
    "kl_rotation": "`anomaly_score` = -KL[U ‖ p] + mean cross entropy of the four rotations",
    "kl": "`anomaly_score` = -KL[U ‖ p]",
    "msp": "`anomaly_score` = -max p",
    "method": "`anomaly_score` by the method's own formula",
    "transformation": "`anomaly_score` = minus the sum, over views and heads, of the true transformation's probability",
}


@dataclass(frozen=True)
class CardFacts:
    """All a card is made of.

    ``baseline`` is the evaluation of an equally trained network without rotations. ``difference`` from PyTorch in
    float32. ``change``: of a graph in another precision than fp32, what that changes.
    """

    manifest: Manifest
    recipe: Recipe
    digest: str
    size: int
    record: dict[str, Any]
    environment: dict[str, Any]
    step: int
    evaluation: Evaluation | None
    baseline: Evaluation | None
    difference: float
    change: PrecisionChange | None = None


def render_card(facts: CardFacts) -> str:
    """Return the card as plain Markdown, figures in percent."""
    sections = [
        f"# {facts.manifest.name}",
        _what_it_is(facts),
        "## Trained on",
        _trained_on(facts),
        *([] if facts.change is None else ["## Precision", precision_section(facts.change)]),
        "## Measured",
        _measured(facts),
        "## Calibration",
        calibration_text(facts.manifest.calibration, unseen=True),
        "## Limits",
        _limits(facts),
        "## How to reproduce",
        _reproduce(facts),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _what_it_is(facts: CardFacts) -> str:
    manifest = facts.manifest
    fitting, views = manifest.fitting, manifest.views
    if manifest.kind == "classifier":
        purpose = (
            f"A classifier of {len(manifest.classes)} classes ({_listed(manifest.classes)}) with an anomaly score."
        )
    else:
        purpose = f"An anomaly detector. What is normal: **{manifest.normal}**."
    method = f"Method: {manifest.method}, Section {facts.recipe.section} of Hendrycks et al., NeurIPS 2019."
    rows = [
        file_cells(manifest, facts.size, facts.digest),
        ("input", f"`images` uint8 [batch, {fitting.size}, {fitting.size}, 3], RGB; {_fitting(facts)}"),
        ("network", f"{manifest.network}, {views} view{'s' if views > 1 else ''} an image in one batch"),
        ("score", f"{_FORMULAS[manifest.score]}; higher is more anomalous"),
        ("recipe", f"`{manifest.recipe.name}` at scale `{manifest.recipe.scale}`"),
        ("agreement", f"within {facts.difference:.1e} of PyTorch on real images at batch sizes 1, 2 and 7"),
    ]
    return f"{purpose}\n\n{method}\n\n{card_table(('', ''), rows)}"


def _fitting(facts: CardFacts) -> str:
    fitting = facts.manifest.fitting
    return f"shorter side to {fitting.shorter_side}, centre crop of {fitting.size}"


def _listed(classes: list[str]) -> str:
    return ", ".join(classes) if len(classes) <= 20 else f"{', '.join(classes[:20])}, ..."


def _trained_on(facts: CardFacts) -> str:
    data, record = facts.manifest.training_data, facts.record
    whose = f" of class {data.in_class}" if data.in_class else ""
    held = record["held_out"]
    lines = [
        f"{data.count} images{whose} of {data.name}, split {data.split}"
        + (f" ({held} more were held out and never trained on)" if held else "")
        + f"; digest of the split `{data.digest}`.",
    ]
    share = published_share(data.name, data.split, data.in_class, data.available)
    if share is not None:
        lines.append(share)
    if "labels" in record:
        lines.append(_labels(record["labels"]))
    if "phases" in record:
        phases = ", ".join(f"{phase['name']} ({phase['steps']} steps)" for phase in record["phases"])
        lines.append(f"In phases, of which the last starts anew or from the pre-training: {phases}.")
    if "seconds" in record:
        state = "the whole schedule" if record["finished"] else f"UNFINISHED: step {facts.step} of {record['steps']}"
        lines.append(
            f"{record['views']} views in {record['seconds'] / 60:.1f} minutes on {record['device']}, {state}; "
            f"{facts.recipe.optimiser.epochs} epochs, seed {facts.environment['seed']}."
        )
    else:
        lines.append(f"UNFINISHED: the checkpoint of step {facts.step}, seed {facts.environment['seed']}.")
    versions = facts.environment["libraries"]
    lines.append(f"torch {versions['torch']}, source revision {facts.environment['source_revision']}.")
    return "\n".join(f"- {line}" for line in lines)


def _labels(labels: dict[str, Any]) -> str:
    return (
        f"Labels corrupted at strength {labels['strength']:g} on purpose: of {labels['untrusted']} a share of "
        f"{labels['changed']:.3f} was wrong; {labels['trusted']} more were trusted and clean. Correction: "
        f"{labels['correction']}. Digest of the labels `{labels['digest']}`."
    )


def published_share(name: str, split: str, in_class: str | None, available: int) -> str | None:
    """Say how much of the published split was there, where that is known and less than all of it; else None."""
    if name not in _PUBLISHED_CLASS_SIZE:
        return None
    published = (1 if in_class else _PUBLISHED_CLASSES[name]) * _PUBLISHED_CLASS_SIZE[name][split]
    if available >= published:
        return None
    whose = f"{name}, class {in_class}" if in_class else name
    return (
        f"Of the {published} {split} images published ({whose}) {available} were there "
        f"({100 * available / published:.1f} %), and every figure here is on that part."
    )


def _measured(facts: CardFacts) -> str:
    evaluation = facts.evaluation
    if evaluation is None:
        return "Not measured: the run has no evaluation of this checkpoint."
    inside, conditions = evaluation["in_distribution"], evaluation["conditions"]
    lines = headlines(evaluation)
    share = published_share(inside["data"], inside["split"], inside["in_class"], inside["available"])
    whose = [] if facts.change is None else ["All of this section was measured with the fp32 graph of the network."]
    parts = [*whose, "\n".join(f"- {line}" for line in ([*lines, share] if share else lines))]
    if evaluation["ood"]:
        parts += [
            f"Detection of out-of-distribution images, in percent: {inside['count']} {inside['data']} test images are "
            f"normal, of each other set {evaluation['ood_ratio']:g} of that number (or all) are drawn and positive.",
            _ood_table(evaluation, facts.baseline),
            *(f"{line}." for line in exposures(evaluation)),
            "AUROC of each detector that the same network offers:",
            _detector_table(evaluation),
        ]
    if evaluation["missing"]:
        parts.append(f"Not measured, as the data was not there: {', '.join(evaluation['missing'])}.")
    if evaluation["published"]:
        rows = [
            (
                figure["metric"],
                f"{figure['published_percent']:g}" + (" (derived)" if figure["derived"] else ""),
                "-" if figure["measured_percent"] is None else f"{figure['measured_percent']:.1f}" + _over(figure),
                figure["where"],
            )
            for figure in evaluation["published"]
        ]
        parts += [
            "Beside the paper's figures, which are of its own networks, schedule and data sets:",
            card_table(("metric", "published", "measured", "where"), rows),
        ]
    parts.append(
        f"Evaluated on {conditions['device']}: {conditions['images_scored']} images of {conditions['views_per_image']} "
        f"views in {conditions['seconds'] / 60:.1f} minutes."
    )
    return "\n\n".join(parts)


def _over(figure: dict[str, Any]) -> str:
    """Say what a measured mean is over, where that is less than the paper's."""
    return f" (over {figure['measured_over']})" if "measured_over" in figure else ""


def _ood_table(evaluation: Evaluation, baseline: Evaluation | None) -> str:
    columns = [(TITLES[name], evaluation, name) for name in main_detectors(evaluation)]
    if baseline is not None:
        columns.insert(0, (f"{TITLES['msp']} of {baseline['recipe']}", baseline, "msp"))
    header = ["set", "images", *(f"{title} {METRIC_TITLES[metric]}" for title, _, _ in columns for metric in METRICS)]
    rows = [
        [
            name,
            str(row["count"]),
            *(percent(source["ood"][name][detector][metric]) for _, source, detector in columns for metric in METRICS),
        ]
        for name, row in evaluation["ood"].items()
    ]
    means = [percent(source["ood_mean"].get(key, {}).get(metric)) for _, source, key in columns for metric in METRICS]
    return card_table(header, [*rows, ["**mean**", "", *means]])


def _detector_table(evaluation: Evaluation) -> str:
    detectors = list(evaluation["ood_mean"])
    rows = [[name, *(percent(row[key]["auroc"]) for key in detectors)] for name, row in evaluation["ood"].items()]
    means = [percent(evaluation["ood_mean"][key]["auroc"]) for key in detectors]
    return card_table(["set", *(TITLES[key] for key in detectors)], [*rows, ["**mean**", *means]])


def _limits(facts: CardFacts) -> str:
    fitting = facts.manifest.fitting
    lines = [
        "The p-values hold for images that come as the calibration images did. On other cameras, crops or encodings "
        "recalibrate with images of your own before trusting a verdict.",
        f"Every image is seen at {fitting.size} x {fitting.size} pixels, the centre of it if it is not square.",
        "Near neighbours of the normal images are the hardest: see the lowest rows of the table. An image that passes "
        "is not thereby ordinary.",
    ]
    if facts.manifest.kind == "classifier":
        lines.append("The class probabilities are not calibrated, and an anomalous image gets a class like any other.")
    if facts.recipe.scale != "paper":
        lines.append(
            f"Trained at scale `{facts.recipe.scale}`: a smaller network and a shorter schedule than the paper's."
        )
    return "\n".join(f"- {line}" for line in lines)


def _reproduce(facts: CardFacts) -> str:
    recipe, name = facts.recipe, facts.manifest.name
    overrides = reproduction_overrides(recipe)
    train = f"quarterturn train {recipe.name} --scale {recipe.scale} --seed {facts.environment['seed']}"
    if overrides is None:
        note = "The recipe is not one that ships: its settings are in the graph's manifest. "
    else:
        note = ""
        train += "".join(f" --set {shlex.quote(change)}" for change in overrides)
    commands = [f"{train} --data DATA --out RUN", "quarterturn evaluate RUN --data DATA"]
    export = f"quarterturn export RUN --name {name} --data DATA"
    if facts.baseline is not None:
        baseline = facts.baseline
        commands += [
            f"quarterturn train {baseline['recipe']} --scale {baseline['scale']} --seed {baseline['seed']} "
            "--data DATA --out BASELINE",
            "quarterturn evaluate BASELINE --data DATA",
        ]
        export += " --baseline BASELINE"
    if facts.change is not None:
        allowed = "" if facts.change.max_loss == MAX_LOSS else f" --max-loss {facts.change.max_loss:g}"
        export += f" --precision {facts.change.precision}{allowed}"
    sets = [recipe.data.name, *_sets_of_images(facts)]
    holds = ", ".join(f"`{one}/`" for one in dict.fromkeys(sets))
    return f"{note}DATA is a data root that holds {holds}.\n\n```sh\n" + "\n".join([*commands, export]) + "\n```"


def _sets_of_images(facts: CardFacts) -> list[str]:
    """Return the out-of-distribution sets that were read, not generated."""
    evaluated = [] if facts.evaluation is None else list(facts.evaluation["ood"])
    compared = [] if facts.change is None else list(facts.change.set_auroc)
    return [name for name in dict.fromkeys([*evaluated, *compared]) if name not in NOISES]


def reproduction_overrides(recipe: Recipe) -> list[str] | None:
    """Return the 'key=value' settings in which ``recipe`` differs from the shipped one of its name; None if none is."""
    try:
        shipped = load_recipe(recipe.name, recipe.scale)
    except RecipeError:
        return None
    before, after = flat_settings(shipped.settings()), flat_settings(recipe.settings())
    changed = [key for key in after if after[key] is not None and before.get(key) != after[key]]
    return [override_of(key, after[key]) for key in changed]
