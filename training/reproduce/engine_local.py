"""Jobs on this machine: one a GPU, or without GPUs as many as there are cores, side by side."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from serving.graphs.providers import available_cores
from training.reproduce.job_process import start_process
from training.reproduce.jobs import Job

BYTES_PER_JOB = 2_000_000_000  # PyTorch, CIFAR-10 twice and the activations of an evaluation


@dataclass
class LocalJob:
    """A process, and the place it takes."""

    process: subprocess.Popen[bytes]
    place: int
    free: list[int]

    def poll(self) -> int | None:
        """Return its exit status, or None while it runs."""
        status = self.process.poll()
        return None if status is None else self._ended(status)

    def stop(self) -> None:
        """Ask it to stop at a checkpoint."""
        self.process.terminate()

    def _ended(self, status: int) -> int:
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
            self.free.append(self.place)
        return status


class LocalEngine:
    """Processes of this machine. With GPUs a job has one of them to itself; without, jobs share the cores evenly.

    Small networks gain little from a second thread: on two cores two jobs of one thread each get more done than one
    job of two, so without GPUs there are as many jobs as cores, memory and ``jobs`` allow.
    """

    def __init__(self, jobs: int, gpus: list[str] | None = None, cores: int | None = None) -> None:
        self._gpus = visible_gpus() if gpus is None else gpus
        cores = available_cores() if cores is None else cores
        limit = len(self._gpus) if self._gpus else min(cores, jobs_in_memory())
        self.places = max(1, min(limit, jobs))
        self._threads = max(1, cores // self.places)
        self._free = list(range(self.places))[::-1]
        where = f"{len(self._gpus)} GPUs" if self._gpus else f"{cores} cores"
        self.described = f"{self.places} side by side on {where}, {self._threads} threads each"

    def environment(self, place: int) -> dict[str, str]:
        """Return what a job in a place gets: its GPU and its number of threads."""
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(self._threads))
        return {**threads, "CUDA_VISIBLE_DEVICES": self._gpus[place]} if self._gpus else threads

    def start(self, job: Job, data: Path, runs: Path, deadline: float | None) -> LocalJob:
        """Start ``job`` in a free place; there must be one."""
        place = self._free.pop()
        return LocalJob(start_process(job, data, runs, deadline, self.environment(place)), place, self._free)

    def close(self) -> None:
        """Nothing is held."""


def visible_gpus() -> list[str]:
    """Return the GPUs as CUDA_VISIBLE_DEVICES names them; none where there is no driver."""
    import torch

    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] if named else [str(index) for index in range(count)]


def jobs_in_memory() -> int:
    """Return how many jobs fit into the memory that is to be had now; at least 1."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # not Linux
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, free // BYTES_PER_JOB)
