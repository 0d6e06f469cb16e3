"""The trainer: one loop for every objective, on Lightning Fabric; resumable to the bit on a CPU."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.progress import TaskID
from torch import Tensor

from training.data.augmentation import augment
from training.data.draws import Draws, step_seed
from training.data.feeds import make_feed
from training.data.image_set import ImageSet
from training.environment import describe_device
from training.networks import build_network
from training.objectives.build import build_objective
from training.progress import progress_bar
from training.recipe import Recipe
from training.run_folder import RunError, RunFolder
from training.schedule import learning_rate


class TrainingError(RuntimeError):
    """A run that cannot go on: its loss is no longer finite."""


@dataclass(frozen=True)
class Outcome:
    """How a call of train() ended: ``step`` of ``steps`` done, ``seconds`` trained in all, calls before included."""

    step: int
    steps: int
    seconds: float
    views: int
    device: str

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


class _Log:
    """Sums the losses on the device and writes their means to metrics.jsonl; refuses a loss that is not finite."""

    def __init__(self, run: RunFolder, every: int, writes: bool) -> None:
        self._run, self._every, self._writes = run, every, writes
        self._sums: dict[str, Tensor] = {}
        self._count, self._views, self._since = 0, 0, time.monotonic()
        self.latest: dict[str, float] = {}

    def add(self, losses: dict[str, Tensor], views: int) -> None:
        for name, value in losses.items():
            kept = value.detach()
            self._sums[name] = self._sums[name] + kept if name in self._sums else kept
        self._count += 1
        self._views += views

    def due(self, step: int) -> bool:
        return step % self._every == 0

    def write(self, step: int, epoch: float, rate: float) -> None:
        """Write the means since the last line. Raises TrainingError if the loss is not finite."""
        if self._count == 0:
            return
        means = {name: float(total) / self._count for name, total in self._sums.items()}
        if not all(abs(value) < float("inf") for value in means.values()):
            raise TrainingError(
                f"the loss is {means['loss']} at step {step} (epoch {epoch:.2f}); the last checkpoint, before it, is "
                "kept. Lower optimiser.lr, or raise optimiser.warmup"
            )
        speed = self._views / max(time.monotonic() - self._since, 1e-9)
        self.latest = {**means, "views_per_second": speed}
        if self._writes:
            line = {"step": step, "epoch": round(epoch, 4), "lr": rate, **self.latest}
            with self._run.metrics_path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        self._sums, self._count, self._views, self._since = {}, 0, 0, time.monotonic()


def train(
    recipe: Recipe,
    images: ImageSet,
    run: RunFolder,
    *,
    seed: int,
    resume: bool = False,
    max_minutes: float | None = None,
) -> Outcome:
    """Train the recipe's network on all of ``images`` and keep checkpoints in ``run``.

    On a CPU, a run that is killed and resumed ends with the very weights of an uninterrupted one. After
    ``max_minutes``, or on SIGINT or SIGTERM, it stops at a checkpoint. Under torchrun it uses every process. Raises
    RunError if the folder holds a checkpoint and ``resume`` is false, or one of another recipe or seed; TrainingError
    if the loss is not finite.
    """
    fabric = make_fabric(recipe)
    device, rank, world = fabric.device, fabric.global_rank, fabric.world_size
    objective = build_objective(recipe, len(images.classes))
    feed = make_feed(images, recipe.optimiser.batch, seed, device, rank, world)
    torch.manual_seed(seed)
    module = build_network(recipe.network, objective.heads)
    if recipe.trainer.channels_last:
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
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
    if run.checkpoint_path.exists() and not resume:
        raise RunError(f"{run.path} holds a run already; go on with it by --resume, or choose another --out")
    if run.checkpoint_path.exists():
        checkpoint = run.load_checkpoint()
        check_same_run(checkpoint, recipe, seed)
        module.load_state_dict(checkpoint["network"])
        optimiser.load_state_dict(checkpoint["optimiser"])
        first_step, clock = checkpoint["step"], _Clock(checkpoint["views"], checkpoint["seconds"])
    if rank == 0:
        run.truncate_metrics(first_step)

    def save(step: int) -> None:
        if rank == 0:
            run.save_checkpoint(
                {
                    "network": module.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "step": step,
                    "views": clock.views,
                    "seconds": clock.seconds,
                    "seed": seed,
                    "recipe": json.dumps(recipe.settings()),
                }
            )

    log = _Log(run, recipe.trainer.log_every, writes=rank == 0)
    step, saved_at = first_step, time.monotonic()
    with _stop_signals() as stop, _Bar(recipe, steps, first_step, quiet=rank != 0) as bar:
        while step < steps:
            epoch, in_epoch = divmod(step, feed.steps_per_epoch)
            for batch, labels in feed.epoch(epoch, in_epoch):
                rate = learning_rate(recipe.optimiser, step, steps)
                for group in optimiser.param_groups:
                    group["lr"] = rate
                torch.manual_seed(step_seed(seed, step) + rank)  # dropout: nothing to carry over a resume
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
                stopping = bool(_any_process(fabric, over or stop.requested))
                save_due = time.monotonic() - saved_at > recipe.trainer.checkpoint_minutes * 60
                if log.due(step) or step == steps or stopping or save_due:
                    log.write(step, step / feed.steps_per_epoch, rate)
                    bar.update(step, log.latest)
                if save_due or step == steps or stopping:
                    save(step)
                    saved_at = time.monotonic()
                if stopping:
                    break
            if step < steps and stopping:
                break
    return Outcome(step, steps, clock.seconds, clock.views, describe_device(device))


def make_fabric(recipe: Recipe) -> Fabric:
    """Return Fabric for the recipe's precision on the GPU if there is one, over all processes of torchrun."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    precision = recipe.trainer.precision
    if precision == "auto":
        precision = "bf16-mixed" if torch.cuda.is_available() else "32-true"
    fabric = Fabric(
        accelerator="cuda" if torch.cuda.is_available() else "cpu",
        strategy="ddp" if world > 1 else "auto",
        devices=local,
        num_nodes=world // local,
        precision=precision,
    )
    fabric.launch()
    return fabric


def check_same_run(checkpoint: dict[str, Any], recipe: Recipe, seed: int) -> None:
    """Raise RunError, naming what differs, if the checkpoint is of another recipe or seed; trainer.* may differ."""
    before, now = _flat(json.loads(checkpoint["recipe"])), _flat(recipe.settings())
    differing = sorted(
        key
        for key in before.keys() | now.keys()
        if not key.startswith("trainer.") and before.get(key) != now.get(key)
    )
    if checkpoint["seed"] != seed:
        differing.append("--seed")
    if differing:
        raise RunError(f"the checkpoint is of another recipe; these differ: {', '.join(differing)}")


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _any_process(fabric: Fabric, flag: bool) -> bool:
    if fabric.world_size == 1:
        return flag
    total = fabric.all_reduce(torch.tensor(float(flag), device=fabric.device), reduce_op="sum")
    assert isinstance(total, Tensor)
    return bool(total > 0)


@dataclass
class _Stop:
    requested: bool = False


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    """While inside, SIGINT and SIGTERM ask for a stop at the next step; outside the main thread nothing changes."""
    stop = _Stop()

    def ask(*_: object) -> None:
        stop.requested = True

    try:
        earlier = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread
        earlier = {}
    try:
        yield stop
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


class _Bar:
    """Progress with loss, views per second and time left; plain lines, a minute apart, where there is no terminal."""

    def __init__(self, recipe: Recipe, steps: int, first: int, quiet: bool) -> None:
        self._progress = progress_bar("loss {task.fields[loss]}", "{task.fields[speed]} views/s")
        self._plain = self._progress.disable and not quiet
        if quiet:
            self._progress.disable = True
        self._name, self._steps, self._first = recipe.name, steps, first
        self._task = TaskID(0)
        self._printed, self._started = 0.0, time.monotonic()

    def __enter__(self) -> _Bar:
        self._progress.start()
        self._task = self._progress.add_task(
            self._name, total=self._steps, completed=self._first, loss="-", speed="-"
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, step: int, latest: dict[str, float]) -> None:
        loss, speed = f"{latest['loss']:.4f}", f"{latest['views_per_second']:.0f}"
        self._progress.update(self._task, completed=step, loss=loss, speed=speed)
        now = time.monotonic()
        if self._plain and (now - self._printed > 60 or step == self._steps):
            left = (now - self._started) / (step - self._first) * (self._steps - step) / 60
            self._progress.console.print(
                f"{self._name}: step {step}/{self._steps}, loss {loss}, {speed} views/s, {left:.0f} min left"
            )
            self._printed = now
