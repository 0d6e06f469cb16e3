"""The run folder: resolved recipe, environment, log, checkpoint and record of a training run; enough to repeat it."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from serving.files import write_atomically
from training.evaluation_file import EVALUATION_FILE
from training.networks import build_network
from training.objectives.build import build_objective
from training.precision import Precision
from training.recipe import Recipe

CHECKPOINT_FORMAT = 1
# Tables, and single settings, that do not decide a run's weights.
_NOT_OF_THE_WEIGHTS = {
    *("evaluation", "sweep", "published", "targets", "row", "title"),
    *("trainer.checkpoint_minutes", "trainer.log_every", "trainer.channels_last"),
}


class RunError(ValueError):
    """A run folder that is not one, holds another run, or could not be written; the message says what to do."""


@dataclass(frozen=True)
class RunFolder:
    """A run's files under ``path``: recipe.json, environment.json, metrics.jsonl, checkpoint.pt, evaluation.json.

    ``phase``: of a run in several phases, which of its checkpoints and logs are meant; '' is the last, the run's own.
    """

    path: Path
    phase: str = ""

    @property
    def checkpoint_path(self) -> Path:
        """Where the latest checkpoint of the phase is."""
        return self.path / f"checkpoint{self._suffix}.pt"

    @property
    def metrics_path(self) -> Path:
        """Where the training log of the phase is, one JSON object a line."""
        return self.path / f"metrics{self._suffix}.jsonl"

    @property
    def _suffix(self) -> str:
        return f"-{self.phase}" if self.phase else ""

    def recipe(self) -> Recipe:
        """Return the resolved recipe of the run. Raises RunError if this is no run folder, or it is damaged."""
        settings = self._read_json("recipe.json")
        try:
            return Recipe.model_validate(settings)
        except ValidationError as error:
            raise RunError(f"{self.path / 'recipe.json'} is no recipe of this version: {error}") from error

    def environment(self) -> dict[str, Any]:
        """Return what the run ran on: versions, seed, source revision, data root. Raises RunError if one is lacking."""
        return self._read_json("environment.json", ("libraries", "source_revision", "seed", "data_root"))

    def training_record(self, *needed: str) -> dict[str, Any]:
        """Return what was trained on, and in which 'precision': 'data', 'held_out', 'classes', 'skipped'.

        And, from the first checkpoint on, how long: 'step', 'steps', 'finished', 'views', 'seconds', 'device'. Raises
        RunError if it cannot be read or has not what is ``needed``.
        """
        return self._read_json("training.json", needed)

    def _read_json(self, name: str, needed: Sequence[str] = ()) -> dict[str, Any]:
        try:
            content = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{self.path} is not a run folder: it has no {name}") from None
        except ValueError as error:
            raise RunError(f"{self.path / name} is damaged: {error}") from error
        if not isinstance(content, dict):
            raise RunError(f"{self.path / name} is damaged: it holds no table")
        if lacking := [key for key in needed if key not in content]:
            raise RunError(f"{self.path / name} is damaged: it says no {', '.join(lacking)}")
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
            raise _not_written(self.path / name, error) from error

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
        found = checkpoint.get("format") if isinstance(checkpoint, dict) else None
        if found != CHECKPOINT_FORMAT:
            raise RunError(f"{self.checkpoint_path} has checkpoint format {found}, not {CHECKPOINT_FORMAT}")
        return checkpoint

    def append_metrics(self, line: str) -> None:
        """Add a line to the training log. Raises RunError if that fails."""
        try:
            with self.metrics_path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise _not_written(self.metrics_path, error) from error

    def begin(self, step: int) -> None:
        """Make the folder ready for a run that goes on from ``step``.

        Drops the log lines after ``step``, which will be written again, and the unfinished files of a killed process;
        at step 0 also an evaluation, which can only be of another network that was trained here before. Raises
        RunError if it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_written(self.path, error) from error
        dropped = [*self.path.glob(".*.tmp"), *([self.path / EVALUATION_FILE] if step == 0 else [])]
        for leftover in dropped:
            try:
                leftover.unlink(missing_ok=True)
            except OSError as error:
                raise _not_written(leftover, error) from error
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


def check_same_recipe(checkpoint: dict[str, Any], recipe: Recipe, seed: int | None = None) -> None:
    """Raise RunError, naming what differs, if the checkpoint is of another recipe (or seed)."""
    differing = settings_that_differ(json.loads(checkpoint["recipe"]), recipe.settings())
    if seed is not None and checkpoint["seed"] != seed:
        differing.append(f"--seed ({checkpoint['seed']} there, {seed} here)")
    if differing:
        raise RunError(f"the checkpoint is of another run; these differ: {', '.join(differing)}")


def settings_that_differ(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Return 'key (value there, value here)' for each of two recipes' settings that decides the weights and differs.

    So evaluation, sweep, logging and what the paper prints may differ. A precision of 'auto' differs from none: what it
    meant is in the training record (see ``in_precision``).
    """
    before, after = flat_settings(there), flat_settings(here)
    return [
        f"{key} ({before.get(key, 'not set')} there, {after.get(key, 'not set')} here)"
        for key in sorted(before.keys() | after.keys())
        if not {key, key.split(".")[0]} & _NOT_OF_THE_WEIGHTS
        and before.get(key) != after.get(key)
        and not (key == "trainer.precision" and "auto" in (before.get(key), after.get(key)))
    ]


def in_precision(recipe: Recipe, precision: Precision) -> dict[str, Any]:
    """Return the recipe's settings with what its trainer.precision came to in its place."""
    settings = recipe.settings()
    return {**settings, "trainer": {**settings["trainer"], "precision": precision}}


def flat_settings(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings with dotted keys, as --set writes them: {'optimiser.lr': 0.1, ...}."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= flat_settings(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _not_written(path: Path, error: OSError) -> RunError:
    return RunError(f"could not write {path}: {error.strerror or error}; what was there is intact")


def heads_of(recipe: Recipe, classes: int) -> dict[str, int]:
    """Return the heads (name -> classes) of the recipe's network for data of ``classes`` classes."""
    return build_objective(recipe, classes).heads


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Return the digest 'sha256:...' of a network's weights by name, on whatever device and in whatever layout."""
    digest = hashlib.sha256()
    for name, values in weights.items():
        plain = values.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {list(plain.shape)}\n".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def load_network(run: RunFolder) -> tuple[nn.Module, Recipe]:
    """Return the run's network as of its latest checkpoint, on the CPU in evaluation mode, and its recipe.

    Raises RunError: no run folder, no checkpoint yet, a damaged one, or one of another recipe.
    """
    recipe = run.recipe()
    checkpoint = run.load_checkpoint()
    check_same_recipe(checkpoint, recipe)
    network = build_network(recipe.network, heads_of(recipe, len(run.training_record("classes")["classes"])))
    try:
        network.load_state_dict(checkpoint["network"])
    except RuntimeError as error:
        raise RunError(f"{run.checkpoint_path} does not fit the classes in training.json: {error}") from error
    return network.eval(), recipe
