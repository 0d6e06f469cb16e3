"""Model check: whether a server can run with the models folder as it is, found out in a process of its own.

A start and a reload ask the same question in the same way. The process reads every file once: what it checks against
the lock file, loads, runs and copies are the same bytes. A process of its own works beside the main one while that
starts, leaves it no memory, and takes a graph that crashes ONNX Runtime with it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from serving.server_folder import ServerFolder, make_server_folder


class ModelCheckError(RuntimeError):
    """Models or settings with which no server can run; the message says what is wrong with which."""


class ModelCheck:
    """A check that runs; the settings are those of the environment."""

    def __init__(self, server: ServerFolder) -> None:
        """Begin it. Raises OSError."""
        self.server = server
        self._state = server.new_state()
        paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(self._state)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )

    def finish(self) -> None:
        """Wait for its end and let the workers have the models. Raises ModelCheckError where they are not good."""
        said, _ = self._process.communicate()
        # Its status says nothing: the process manager may have collected it before.
        outcome = said.decode().removesuffix("\n")
        problem = json.loads(outcome) if outcome else "the check of the models was killed"
        if problem is not None:
            shutil.rmtree(self._state, ignore_errors=True)
            raise ModelCheckError(problem)
        self.server.adopt(self._state)


@cache
def check_at_start() -> ModelCheck:
    """Return the check of this process's start; the first call makes its server folder and begins it.

    Raises OSError.
    """
    return ModelCheck(make_server_folder())


def main() -> None:
    """Check the models and copy them to the folder of the first argument; write what is wrong, or null, as JSON."""
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)  # what a library prints is no answer
        answer.write(f"{json.dumps(_problem(Path(sys.argv[1])))}\n")


def _problem(copies: Path) -> str | None:
    from serving.collection import CollectionError, load_collection
    from serving.graph import GraphError
    from serving.inference import warm_all
    from serving.lock_file import LockError
    from serving.providers import ProviderError
    from serving.settings import Settings, SettingsError

    try:
        settings = Settings.from_environment(os.environ)
        # On the CPU, unless the settings demand a GPU: there is one check, and there may be a worker for each GPU.
        device = "cpu" if settings.device == "auto" else settings.device
        settings = settings.model_copy(update={"device": device, "threads": settings.threads or 1})
        warm_all(load_collection(settings.models, settings, copies=copies).graphs, lambda _: (1,))
    except (CollectionError, GraphError, LockError, ProviderError, SettingsError, OSError) as error:
        return str(error)
    except Exception as error:  # a file for which nothing of the above was made
        return f"the models cannot be checked: {error!r}"
    return None


if __name__ == "__main__":
    main()
