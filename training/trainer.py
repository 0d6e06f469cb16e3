"""The trainer: one loop for every objective, on Lightning Fabric; resumable to the bit on a CPU."""

from __future__ import annotations

import atexit
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from training.data.augmentation import augment
from training.data.draws import Draws, network_seed
from training.data.feeds import make_feed
from training.data.image_set import ImageSet
from training.environment import accelerator, describe_device
from training.exposure.build import expose
from training.networks import build_network
from training.networks.shared_batch_norm import share_batch_norm
from training.networks.start import Weights, start_from
from training.objectives.build import build_objective
from training.objectives.objective import LabelLoss
from training.precision import fabric_options, resolve_precision
from training.recipe import Recipe
from training.run_folder import RunError, RunFolder, check_same_recipe
from training.schedule import learning_rate
from training.stop_signals import stop_signals
from training.training_log import TrainingBar, TrainingLog


class TrainingError(RuntimeError):
    """A run that cannot go on: its loss or its weights are no longer finite."""


@dataclass(frozen=True)
class Outcome:
    """How far a run is: ``step`` of ``steps`` done, ``seconds`` trained in all, calls before included.

    ``stopped``: a signal or ``max_minutes`` asked it to stop, if only at the very last step.
    """

    step: int
    steps: int
    seconds: float
    views: int
    device: str
    stopped: bool = False

    @property
    def finished(self) -> bool:
        """Whether every step of the recipe is done."""
        return self.step == self.steps


@dataclass
class _Clock:
    """Views and seconds of the run so far, over all its calls."""

    views: int = 0
    seconds_before: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def here(self) -> float:
        """Seconds since this call of train() began."""
        return time.monotonic() - self.started

    @property
    def seconds(self) -> float:
        """Seconds over all calls."""
        return self.seconds_before + self.here


def train(
    recipe: Recipe,
    images: ImageSet,
    run: RunFolder,
    *,
    seed: int,
    resume: bool = False,
    max_minutes: float | None = None,
    on_checkpoint: Callable[[Outcome], None] | None = None,
    outliers: ImageSet | None = None,
    start: Weights | None = None,
    label_loss: LabelLoss = functional.cross_entropy,
) -> Outcome:
    """Train the recipe's network on all of ``images`` and keep checkpoints in ``run``.

    On a CPU, a run that is killed and resumed ends with the very weights of an uninterrupted one. After
    ``max_minutes``, or on SIGINT or SIGTERM, it stops at a checkpoint. Under torchrun it uses every process; the first
    writes. ``on_checkpoint`` is called after each checkpoint, by the process that wrote it, and on a resume for the one
    it goes on from: the killed process may not have come to it. ``outliers``: the images of a recipe with Outlier
    Exposure. ``start``: weights of an earlier phase to start from (see ``start_from``). ``label_loss``: see
    ``build_objective``. Raises RunError if the folder holds a checkpoint and ``resume`` is false, or one of another
    recipe or seed; TrainingError if the loss is not finite; DataError if the images do not suit the recipe.
    """
    checkpoint = _checkpoint_to_resume(run, recipe, seed, resume)
    fabric = make_fabric(recipe)
    device, rank, world = fabric.device, fabric.global_rank, fabric.world_size
    objective = build_objective(recipe, len(images.classes), label_loss)
    feed = make_feed(images, recipe.optimiser.batch, seed, device, rank, world)
    if recipe.outliers is not None and outliers is not None:
        objective = expose(objective, recipe, recipe.outliers, outliers, device)
    torch.manual_seed(seed)
    module = build_network(recipe.network, objective.heads)
    if start is not None:
        start_from(module, start)
    if world > 1:
        module = share_batch_norm(module, device)
    if recipe.trainer.channels_last:
        module = module.to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(
        module.parameters(),
        recipe.optimiser.lr,
        recipe.optimiser.momentum,
        weight_decay=recipe.optimiser.weight_decay,
        nesterov=recipe.optimiser.momentum > 0,
    )
    network, optimiser = fabric.setup(module, optimiser)
    network.train()

    steps = feed.steps_per_epoch * recipe.optimiser.epochs
    first_step, clock = 0, _Clock()
    if checkpoint is not None:
        module.load_state_dict(checkpoint["network"])
        optimiser.load_state_dict(checkpoint["optimiser"])
        fabric.strategy.precision.load_state_dict(checkpoint.get("loss_scale", {}))
        first_step, clock = checkpoint["step"], _Clock(checkpoint["views"], checkpoint["seconds"])
    _check_one_beginning(fabric, first_step)
    if rank == 0:
        run.begin(first_step)

    def outcome(step: int) -> Outcome:
        return Outcome(step, steps, clock.seconds, clock.views, describe_device(device))

    def save(step: int) -> None:
        if not _is_finite(module):
            raise TrainingError(_not_finite("some weights are not finite", step, run))
        if rank != 0:
            return
        run.save_checkpoint(
            {
                "network": module.state_dict(),
                "optimiser": optimiser.state_dict(),
                "loss_scale": fabric.strategy.precision.state_dict(),
                "step": step,
                "views": clock.views,
                "seconds": clock.seconds,
                "seed": seed,
                "recipe": json.dumps(recipe.settings()),
            }
        )
        if on_checkpoint is not None:
            on_checkpoint(outcome(step))

    if rank == 0 and checkpoint is not None and on_checkpoint is not None:
        on_checkpoint(outcome(first_step))
    log = TrainingLog(run, writes=rank == 0)
    step, saved_at, stopping = first_step, time.monotonic(), False
    with stop_signals() as stop, TrainingBar(recipe.name, steps, first_step, quiet=rank != 0) as bar:
        while step < steps and not stopping:
            epoch, in_epoch = divmod(step, feed.steps_per_epoch)
            for batch, labels in feed.epoch(epoch, in_epoch):
                rate = learning_rate(recipe.optimiser, step, steps)
                for group in optimiser.param_groups:
                    group["lr"] = rate
                torch.manual_seed(network_seed(seed, step, rank))  # dropout: nothing to carry over a resume
                draws = Draws(seed, step, feed.batch, device, rank, world)
                augmented = augment(batch, recipe.augmentation, draws)
                optimiser.zero_grad(set_to_none=True)
                losses = objective.losses(network, augmented, labels, draws)
                fabric.backward(losses["loss"])
                optimiser.step()
                step += 1
                views = feed.batch * objective.views_per_image
                clock.views += views
                log.add(losses, views)
                over = max_minutes is not None and clock.here > max_minutes * 60
                save_due = time.monotonic() - saved_at > recipe.trainer.checkpoint_minutes * 60
                stopping, save_due = _any_process(fabric, over or stop.made, save_due)
                save_due = save_due or stopping or step == steps
                if save_due or step % recipe.trainer.log_every == 0:
                    log.share(fabric)
                    if not log.finite():
                        raise TrainingError(_not_finite("the loss is not finite", step, run))
                    log.write(step, step / feed.steps_per_epoch, rate)
                    bar.update(step, log.latest)
                if save_due:
                    save(step)
                    saved_at = time.monotonic()
                if stopping:
                    break
    return replace(outcome(step), stopped=stopping)


def make_fabric(recipe: Recipe) -> Fabric:
    """Return Fabric for the recipe's precision on the GPU if there is one, over all processes of torchrun."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator=accelerator(),
        strategy="ddp" if world > 1 else "auto",
        devices=local,
        num_nodes=world // local,
        **fabric_options(resolve_precision(recipe.trainer.precision), accelerator()),
    )
    fabric.launch()
    if world > 1:
        atexit.register(_leave_the_others)
    return fabric


def _leave_the_others() -> None:
    """Leave the group of processes, which Fabric does with NCCL alone.

    A group that is still there when the interpreter ends can abort the process: its threads are running.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _checkpoint_to_resume(run: RunFolder, recipe: Recipe, seed: int, resume: bool) -> dict[str, Any] | None:
    if not run.checkpoint_path.exists():
        return None
    if not resume:
        raise RunError(f"{run.path} holds a run already; go on with it by --resume, or choose another --out")
    checkpoint = run.load_checkpoint()
    check_same_recipe(checkpoint, recipe, seed)
    return checkpoint


def _check_one_beginning(fabric: Fabric, step: int) -> None:
    """Raise RunError, in all processes, where they do not begin at the same step: weights would be apart for ever."""
    if fabric.world_size == 1:
        return
    steps = fabric.all_gather(torch.tensor(step, device=fabric.device))
    assert isinstance(steps, Tensor)
    if steps.min() != steps.max():
        raise RunError("the processes see different checkpoints: the run folder must be the same on every machine")


def _not_finite(what: str, step: int, run: RunFolder) -> str:
    kept = "the last checkpoint, before it, is kept" if run.checkpoint_path.exists() else "there is no checkpoint yet"
    return f"{what} after step {step}; {kept}. Lower optimiser.lr, or raise optimiser.warmup"


def _is_finite(module: nn.Module) -> bool:
    return all(bool(torch.isfinite(value).all()) for value in module.state_dict().values())


def _any_process(fabric: Fabric, *flags: bool) -> list[bool]:
    """Return each flag as true if it is so in any process: the same answer in all of them."""
    if fabric.world_size == 1:
        return list(flags)
    total = fabric.all_reduce(torch.tensor(flags, dtype=torch.float32, device=fabric.device), reduce_op="sum")
    assert isinstance(total, Tensor)
    return [count > 0 for count in total.tolist()]
