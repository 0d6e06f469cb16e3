"""A run in phases: several trainings, one after the other, in one run folder, each with its own checkpoint and log.

The last phase's checkpoint is the run's: evaluation and export see a run of one phase. Every phase makes the draws of a
run of its own with the run's seed. A killed run resumes in the phase it was in, from that phase's last checkpoint.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional

from training.data.feeds import steps_per_epoch
from training.data.image_set import ImageSet
from training.environment import describe_device, is_first_process
from training.networks.start import Weights
from training.objectives.objective import LabelLoss
from training.progress import note
from training.recipe import Recipe
from training.run_folder import RunFolder, check_same_recipe
from training.shared_phases import SharedPhases
from training.trainer import Outcome, make_fabric, train


@dataclass(frozen=True)
class Phase:
    """One training of a run: ``recipe`` on ``images``.

    ``name`` is part of its files' names, '' for the last phase. ``start``: the earlier phase whose weights it starts
    from; None for freshly drawn ones. ``label_loss`` makes the loss on the labels when the phase begins, given the
    device, from what earlier phases left. ``shareable``: it depends on its recipe, images and the seed alone, so that
    runs may share it.
    """

    name: str
    recipe: Recipe
    images: ImageSet
    start: str | None = None
    label_loss: Callable[[torch.device], LabelLoss] | None = None
    shareable: bool = False

    @property
    def steps(self) -> int:
        """How many steps it has."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        return steps_per_epoch(len(self.images), self.recipe.optimiser.batch, world) * self.recipe.optimiser.epochs


def has_begun(run: RunFolder) -> bool:
    """Return whether any phase has left a checkpoint in the run folder."""
    return run.checkpoint_path.exists() or any(run.path.glob("checkpoint-*.pt"))


def has_pretrained(run: RunFolder) -> bool:
    """Return whether a run that begins with a pre-training is through with it: a later phase has logged a step."""
    return any(path.name != "metrics-pretraining.jsonl" for path in run.path.glob("metrics*.jsonl"))


def phases_record(phases: list[Phase]) -> dict[str, Any]:
    """Return what a run records of its phases, under 'phases'; nothing for a run of one."""
    if len(phases) == 1:
        return {}
    return {
        "phases": [
            {"name": phase.name or "last", "images": len(phase.images), "steps": phase.steps} for phase in phases
        ]
    }


def train_phases(
    phases: list[Phase],
    run: RunFolder,
    *,
    seed: int,
    resume: bool = False,
    max_minutes: float | None = None,
    on_checkpoint: Callable[[Outcome], None] | None = None,
    outliers: ImageSet | None = None,
    shared: SharedPhases | None = None,
) -> Outcome:
    """Train the phases in order; arguments, outcome and errors as of ``train``. One phase alone is just ``train``.

    ``max_minutes`` is for all of them together. The outcome's steps are the last phase's, 0 until it begins; its views
    and seconds are of all phases, those done by another run included. ``shared``: where finished phases that other runs
    can use are kept and looked for.
    """
    began = time.monotonic()
    total = Outcome(0, phases[-1].steps, 0.0, 0, "")
    for number, phase in enumerate(phases, 1):
        folder = replace(run, phase=phase.name)
        last = number == len(phases)
        if shared is not None and phase.shareable:
            shared.adopt(phase.recipe, phase.images, seed, folder)
        done = None if last else _finished(folder, phase, seed)
        if done is None:
            start, label_loss = _beginning(phase, run)
            if is_first_process() and len(phases) > 1:
                note(f"{phase.recipe.name}: phase {number} of {len(phases)}, {phase.name or 'last'}")
            before = total

            def report(outcome: Outcome, before: Outcome = before, last: bool = last) -> None:
                if on_checkpoint is not None:
                    on_checkpoint(_add(before, outcome, last))

            done = train(
                phase.recipe,
                phase.images,
                folder,
                seed=seed,
                resume=resume,
                max_minutes=None if max_minutes is None else max(0.0, max_minutes - (time.monotonic() - began) / 60),
                on_checkpoint=report,
                outliers=outliers,
                start=start,
                label_loss=label_loss,
            )
        total = _add(total, done, last)
        if done.stopped or last:
            break
        make_fabric(phase.recipe).barrier()  # the others read what the first process writes
        if shared is not None and phase.shareable:
            shared.publish(phase.recipe, phase.images, seed, folder)
    return total


def _add(before: Outcome, phase: Outcome, last: bool) -> Outcome:
    step = phase.step if last else 0
    seconds, views = before.seconds + phase.seconds, before.views + phase.views
    return Outcome(step, before.steps, seconds, views, phase.device, phase.stopped)


def _beginning(phase: Phase, run: RunFolder) -> tuple[Weights | None, LabelLoss]:
    """Return the weights that the phase starts from and its loss on the labels."""
    start: Weights | None = None
    if phase.start is not None:
        start = replace(run, phase=phase.start).load_checkpoint()["network"]
    if phase.label_loss is None:
        return start, functional.cross_entropy
    return start, phase.label_loss(make_fabric(phase.recipe).device)


def _finished(folder: RunFolder, phase: Phase, seed: int) -> Outcome | None:
    """Return the outcome of a phase that is done, from its checkpoint; None if it is not. Raises RunError."""
    if not folder.checkpoint_path.exists():
        return None
    checkpoint = folder.load_checkpoint()
    check_same_recipe(checkpoint, phase.recipe, seed)
    if checkpoint["step"] != phase.steps:
        return None
    device = describe_device(make_fabric(phase.recipe).device)
    return Outcome(phase.steps, phase.steps, checkpoint["seconds"], checkpoint["views"], device)
