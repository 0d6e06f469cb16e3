"""Jobs on a Ray cluster (extra 'ray'): each a task that starts the job's process where Ray finds a place for it.

RUNS and the data root must be the same folders on every machine of the cluster (a shared file system). So a running job
is asked to stop by a file in its folder: the interrupt by which Ray cancels a running task may be lost.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.reproduce.engine import EngineError
from training.reproduce.job_process import add_line, log_path
from training.reproduce.jobs import Job
from training.reproduce.run_job import FAILED, STOPPED

_SECONDS_BETWEEN_LOOKS = 0.2
_STOP_FILE = ".stop"


class RayJob:
    """A task of the cluster, running or waiting there."""

    def __init__(self, ray: Any, reference: Any, stop_file: Path, log: Path) -> None:
        self._ray, self._reference, self._stop_file, self._log = ray, reference, stop_file, log

    def poll(self) -> int | None:
        """Return its exit status, or None while it runs or waits for a place.

        Where Ray lost it, or could not start it, that is FAILED, and the job's log ends with the reason.
        """
        ready, _ = self._ray.wait([self._reference], timeout=0)
        return self._status() if ready else None

    def stop(self) -> None:
        """Ask it to stop at a checkpoint; one that waits for a place is cancelled."""
        self._stop_file.touch()
        self._ray.cancel(self._reference)

    def _status(self) -> int:
        try:
            return int(self._ray.get(self._reference))
        except self._ray.exceptions.TaskCancelledError:
            return STOPPED
        except self._ray.exceptions.RayError as error:
            add_line(self._log, f"error: Ray: {_reason(error)}")
            return FAILED


def _reason(error: Any) -> str:
    """Return in a line what Ray says, or, for an error that the task itself raised, what that was."""
    cause = getattr(error, "cause", None)
    text = str(error) if cause is None else f"{type(cause).__name__}: {cause}"
    return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)


class RayEngine:
    """All jobs are given to Ray at once, which queues them: the cluster of RAY_ADDRESS, or one made on this machine.

    With GPUs in the cluster a job takes one, and so many cores as every GPU's machine has for each; without, one core.
    """

    def __init__(self, jobs: int, address: str | None = None) -> None:
        try:
            import ray
        except ModuleNotFoundError:
            raise EngineError("--engine ray needs Ray: in the checkout, pip install -e '.[train,ray]'") from None
        self._ray: Any = ray
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        own = {"include_dashboard": False} if address == "local" else {}
        self._ray.init(address=address, log_to_driver=False, **own)
        there = self._ray.cluster_resources()
        gpus, cores = int(there.get("GPU", 0)), int(there.get("CPU", 1))
        self._cores = cores_a_gpu(self._ray.nodes()) if gpus else 1
        self._task = self._ray.remote(max_retries=0, num_cpus=self._cores, num_gpus=1 if gpus else 0)(_run_here)
        self.places = max(1, jobs)
        self.described = f"on a Ray cluster of {cores} cores and {gpus} GPUs, {self._cores} cores a job"

    def start(self, job: Job, data: Path, runs: Path, deadline: float | None) -> RayJob:
        """Give ``job`` to the cluster."""
        described = json.dumps(asdict(job))
        stop_file = runs.resolve() / job.name / _STOP_FILE
        stop_file.parent.mkdir(parents=True, exist_ok=True)
        stop_file.unlink(missing_ok=True)
        arguments = (described, str(data.resolve()), str(runs.resolve()), deadline, self._cores)
        return RayJob(self._ray, self._task.remote(*arguments), stop_file, log_path(job, runs))

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        self._ray.shutdown()


def cores_a_gpu(nodes: Iterable[Mapping[str, Any]]) -> int:
    """Return the cores that each GPU of every machine which has any can have, so that all of them take jobs."""
    there = [node["Resources"] for node in nodes if node["Alive"]]
    return max(1, min(int(one.get("CPU", 1)) // int(one["GPU"]) for one in there if one.get("GPU", 0) >= 1))


def _run_here(described: str, data: str, runs: str, deadline: float | None, threads: int) -> int:
    """Run a job's process on the machine of this task and return its exit status; stopped by its stop file."""
    from training.reproduce.job_process import start_process, stop_process

    fields = json.loads(described)
    job = Job(**{**fields, "overrides": tuple(fields["overrides"])})
    environment = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    stop_file = Path(runs) / job.name / _STOP_FILE
    earlier = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ray's interrupt; a second request would kill the job
    try:
        process = start_process(job, Path(data), Path(runs), deadline, environment)
        while process.poll() is None:
            if stop_file.exists():
                stop_process(process)
            else:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
        return process.returncode
    finally:
        signal.signal(signal.SIGINT, earlier)
