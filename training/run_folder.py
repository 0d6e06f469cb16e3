"""The run folder: resolved recipe, environment, log, checkpoint and record of a training run; enough to repeat it."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.files import write_atomically
from training.networks import build_network
from training.objectives.build import build_objective
from training.recipe import Recipe

CHECKPOINT_FORMAT = 1


class RunError(ValueError):
    """A run folder that is not one, holds another run, or could not be written; the message says what to do."""


@dataclass(frozen=True)
class RunFolder:
    """A run's files under ``path``: recipe.json, environment.json, metrics.jsonl, checkpoint.pt, evaluation.json."""

    path: Path

    @property
    def checkpoint_path(self) -> Path:
        """Where the latest checkpoint is."""
        return self.path / "checkpoint.pt"

    @property
    def metrics_path(self) -> Path:
        """Where the training log is, one JSON object a line."""
        return self.path / "metrics.jsonl"

    def recipe(self) -> Recipe:
        """Return the resolved recipe of the run. Raises RunError if this is no run folder."""
        return Recipe.model_validate(self._read_json("recipe.json"))

    def environment(self) -> dict[str, Any]:
        """Return what the run ran on: versions, device, seed, source revision, data root."""
        return self._read_json("environment.json")

    def training_record(self) -> dict[str, Any]:
        """Return what was trained on and for how long: data, classes, views, seconds, epochs, finished."""
        return self._read_json("training.json")

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{self.path} is not a run folder: it has no {name}") from None
        except ValueError as error:
            raise RunError(f"{self.path / name} is damaged: {error}") from error
        return content

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write ``content`` to file ``name``, atomically. Raises RunError if that fails, the old file untouched."""
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        self._write(name, text.encode())

    def save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Replace the checkpoint, atomically. Raises RunError if that fails, the earlier one untouched."""
        buffer = io.BytesIO()
        torch.save({"format": CHECKPOINT_FORMAT, **checkpoint}, buffer)
        self._write(self.checkpoint_path.name, buffer.getvalue())

    def _write(self, name: str, data: bytes) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path / name, data)
        except OSError as error:
            raise RunError(f"could not write {self.path / name}: {error.strerror}; what was there is intact") from error

    def load_checkpoint(self) -> dict[str, Any]:
        """Return the latest checkpoint, on the CPU: 'network', 'optimiser', 'step', 'seed', 'views', 'seconds'.

        Raises RunError if there is none, it is damaged, or of another format.
        """
        if not self.checkpoint_path.is_file():
            raise RunError(f"{self.path} has no checkpoint yet")
        try:
            checkpoint: dict[str, Any] = torch.load(self.checkpoint_path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise RunError(f"{self.checkpoint_path} is damaged: {error}") from error
        if checkpoint.get("format") != CHECKPOINT_FORMAT:
            raise RunError(f"{self.checkpoint_path} has format {checkpoint.get('format')}, not {CHECKPOINT_FORMAT}")
        return checkpoint

    def truncate_metrics(self, step: int) -> None:
        """Drop log lines after ``step``: those that a resumed run writes again."""
        if not self.metrics_path.exists():
            return
        kept = []
        for line in self.metrics_path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError):
                continue  # the line that a kill cut short
        self._write(self.metrics_path.name, "".join(kept).encode())


def heads_of(recipe: Recipe, classes: int) -> dict[str, int]:
    """Return the heads (name -> classes) of the recipe's network for data of ``classes`` classes."""
    return build_objective(recipe, classes).heads


def load_network(run: RunFolder) -> tuple[nn.Module, Recipe]:
    """Return the run's network as of its latest checkpoint, on the CPU in evaluation mode, and its recipe."""
    recipe = run.recipe()
    checkpoint = run.load_checkpoint()
    network = build_network(recipe.network, heads_of(recipe, len(run.training_record()["classes"])))
    network.load_state_dict(checkpoint["network"])
    return network.eval(), recipe
