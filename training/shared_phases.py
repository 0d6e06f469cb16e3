"""Finished phases that runs share: eleven corruption strengths need one rotation pre-training, not eleven.

A folder holds one file a phase, named by a digest of all that decides its weights. Files appear whole or not at all, so
runs may train in parallel; two that begin together both train the phase and leave the same file.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from serving.files import write_atomically
from training.data.image_set import ImageSet
from training.environment import accelerator, is_first_process
from training.recipe import Recipe
from training.run_folder import RunError, RunFolder
from training.trainer import make_fabric


@dataclass(frozen=True)
class SharedPhases:
    """A folder of finished phases."""

    path: Path

    def adopt(self, recipe: Recipe, images: ImageSet, seed: int, folder: RunFolder) -> None:
        """Copy the finished phase into ``folder``, if it is here and the run has not begun the phase itself."""
        source = self._file(recipe, images, seed)
        if is_first_process() and source.is_file() and not folder.checkpoint_path.exists():
            _copy(source, folder.checkpoint_path)
        make_fabric(recipe).barrier()

    def publish(self, recipe: Recipe, images: ImageSet, seed: int, folder: RunFolder) -> None:
        """Copy the phase that ``folder`` has finished to here, unless it is here already. Raises RunError."""
        target = self._file(recipe, images, seed)
        if is_first_process() and not target.exists():
            _copy(folder.checkpoint_path, target)

    def _file(self, recipe: Recipe, images: ImageSet, seed: int) -> Path:
        return self.path / f"{recipe.name}-{phase_digest(recipe, images, seed)[:16]}.pt"


def phase_digest(recipe: Recipe, images: ImageSet, seed: int) -> str:
    """Return the digest of what decides a phase's weights: settings, images, seed, kind of device and processes.

    How often it logs and saves does not count. ``images`` count by the digest of their whole split: which of them are
    trained on follows from the recipe.
    """
    settings = recipe.settings()
    for key in ("checkpoint_minutes", "log_every"):
        del settings["trainer"][key]
    decides = {
        "recipe": settings,
        "images": [images.digest, len(images)],
        "seed": seed,
        "device": accelerator(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _copy(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, source.read_bytes())
    except OSError as error:
        raise RunError(f"could not copy {source} to {target}: {error.strerror or error}") from error
