"""Train in each of torchrun's processes into a folder of its own, FOLDER/RANK; only the first holds a checkpoint.

Writes FOLDER/RANK/refused where the training is refused for that.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.training.patterns import image_set
from training.recipe_files import load_recipe
from training.run_folder import RunError, RunFolder
from training.trainer import train

if __name__ == "__main__":
    rank = os.environ["RANK"]
    run = RunFolder(Path(sys.argv[1]) / rank)
    run.path.mkdir()
    recipe = load_recipe("own-classifier-32", "smoke", ["optimiser.batch=6", "optimiser.epochs=1"])
    images = image_set(per_class=4)
    if rank == "0":
        alone = {name: os.environ.pop(name) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK", "LOCAL_RANK")}
        train(recipe, images, run, seed=0, max_minutes=0)
        os.environ.update(alone)
    try:
        train(recipe, images, run, seed=0, resume=True)
    except RunError as error:
        (run.path / "refused").write_text(str(error))
