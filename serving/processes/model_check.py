"""Model check: whether a server can run with the models folder as it is; what was found good is copied for the workers.

A start and a reload ask the same question in the same way. Every file is read once: what is checked against the lock
file, loaded, run and copied are the same bytes. A start asks in a thread, while BentoML is imported. A reload asks in a
process of its own, which leaves the main process no memory and takes a graph that crashes ONNX Runtime with it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path

from serving.graphs.collection import CollectionError, load_collection
from serving.graphs.graph import GraphError
from serving.graphs.inference import warm_all
from serving.graphs.lock_file import LockError
from serving.graphs.providers import ProviderError
from serving.processes.server_folder import ServerFolder, make_server_folder
from serving.settings import Settings, SettingsError


class ModelCheckError(RuntimeError):
    """Models or settings with which no server can run; the message says what is wrong with which."""


class StartCheck:
    """The check of a server's start, which runs from the moment this is made."""

    def __init__(self, server: ServerFolder) -> None:
        self.server = server
        self._state = server.new_state()
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._check, name="model check", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait for its end and let the workers have the models. Raises ModelCheckError where they are not good."""
        self._thread.join()
        _adopt(self.server, self._state, self._problem)

    def _check(self) -> None:
        self._problem = problem_with_models(self._state)


@cache
def check_at_start() -> StartCheck:
    """Return the check of this process's start; the first call makes its server folder and begins it.

    Raises OSError.
    """
    return StartCheck(make_server_folder())


def check_apart(server: ServerFolder) -> None:
    """Check the models in another process and let the workers have them. Raises ModelCheckError and OSError."""
    state = server.new_state()
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-P", "-m", __name__, str(state)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    # Its status says nothing: the process manager may have collected it before.
    problem = json.loads(done.stdout) if done.stdout.endswith(b"\n") else "the check of the models was killed"
    _adopt(server, state, problem)


def problem_with_models(copies: Path) -> str | None:
    """Return what is wrong with the models of the environment's settings, or None; copy them, as they are loaded."""
    try:
        settings = Settings.from_environment(os.environ)
        # On the CPU, unless the settings demand a GPU: there is one check, and there may be a worker for each GPU.
        device = "cpu" if settings.device == "auto" else settings.device
        settings = settings.model_copy(update={"device": device, "threads": settings.threads or 1})
        warm_all(load_collection(settings.models, settings, copies=copies).graphs, lambda _: (1,))
    except (CollectionError, GraphError, LockError, ProviderError, SettingsError) as error:
        return str(error)
    except OSError as error:
        return str(error) if error.filename else f"{error.strerror or error}: {copies}"  # a copy that found no room
    except Exception as error:
        return f"the models cannot be checked: {error!r}"
    return None


def _adopt(server: ServerFolder, state: Path, problem: str | None) -> None:
    if problem is not None:
        shutil.rmtree(state, ignore_errors=True)
        raise ModelCheckError(problem)
    server.adopt(state)


def main() -> None:
    """Check the models and copy them to the folder of the first argument; write what is wrong, or null, as JSON."""
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)  # what a library prints is no answer
        answer.write(f"{json.dumps(problem_with_models(Path(sys.argv[1])))}\n")


if __name__ == "__main__":
    main()
