"""The contestants, each with the variants that may suit a machine; what is reported of each is its best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.service.contestants.environment import Plan
from benchmarks.service.workloads import SCORE, Task

RAW = "raw"
OURS = "quarterturn"
CONTESTANTS = {
    RAW: "(a) decoding + ONNX Runtime in process",
    OURS: "(b) Quarterturn",
    "fastapi": "(c) FastAPI + uvicorn",
    "litserve": "(d) LitServe",
    "bentoml": "(e) stock BentoML",
}


@dataclass(frozen=True)
class Interpreters:
    """Python of the environment that serves (ours, BentoML), and of the one with FastAPI and LitServe.

    They are two, so that the service is measured as it installs: uvicorn takes what it finds.
    """

    service: Path
    bench: Path


@dataclass(frozen=True)
class Launch:
    """How to start one server, and where it answers: POST to ``path`` with the image and ``fields``."""

    command: Sequence[str]
    port: int
    ready_path: str
    path: str
    environment: Mapping[str, str]
    fields: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Variant:
    """One way to run a contestant; ``launch`` says how, for a task on a port."""

    title: str
    launch: Callable[[Task, int], Launch]


def server_variants(
    contestant: str, pythons: Interpreters, cores: int, serve_options: Sequence[str] = (), cuda: bool = False
) -> list[Variant]:
    """Return the variants of a contestant that is a server; ``serve_options`` go to ours, ``cuda`` puts it on a GPU."""
    if contestant == OURS:
        return [Variant(" ".join(serve_options) or "defaults", _ours(pythons.service, serve_options, cuda))]
    if contestant == "fastapi":
        return [
            # workers, threads of a run, handler threads of a worker
            Variant(_title(workers, run, handlers), _fastapi(pythons.bench, workers, run, handlers))
            for workers, run, handlers in _distinct((1, 1, cores), (1, cores, 40), (2, max(1, cores // 2), 2))
        ]
    if contestant == "litserve":
        return [
            Variant(f"{_title(workers, run)}, batch <= 8", _litserve(pythons.bench, workers, run))
            for workers, run in _distinct((1, cores), (2, max(1, cores // 2)))
        ]
    return [Variant(_title(1, cores), _bentoml(pythons.service, cores))]


def empty_launch(pythons: Interpreters, port: int) -> Launch:
    """Return how to start the BentoML service that does nothing."""
    return Launch(_serve(pythons.service, "empty_bentoml:Empty", port), port, "/readyz", "/nothing", _QUIET)


_QUIET = {"BENTOML_DO_NOT_TRACK": "True"}


def _title(workers: int, run_threads: int, handlers: int | None = None) -> str:
    parts = [
        f"{workers} worker{'s' if workers > 1 else ''}",
        f"{run_threads} thread{'s' if run_threads > 1 else ''} a run",
    ]
    return ", ".join([*parts, f"{handlers} handlers"] if handlers else parts)


def _distinct(*plans: tuple[int, ...]) -> list[tuple[int, ...]]:
    return list(dict.fromkeys(plans))


def _ours(python: Path, options: Sequence[str], cuda: bool) -> Callable[[Task, int], Launch]:
    def launch(task: Task, port: int) -> Launch:
        command = [str(python.with_name("quarterturn")), "serve", "--port", str(port), *options]
        environment = {"QUARTERTURN_DEVICE": "cuda"} if cuda else {}
        fields = [("model", task.model)] if task.path == SCORE.path else []
        return Launch(command, port, "/readyz", task.path, environment, fields)

    return launch


def _fastapi(python: Path, workers: int, run_threads: int, handlers: int) -> Callable[[Task, int], Launch]:
    def launch(task: Task, port: int) -> Launch:
        app = "benchmarks.service.contestants.fastapi_app:app_of_environment"
        command = [str(python), "-m", "uvicorn", "--factory", app, "--port", str(port), "--workers", str(workers)]
        command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
        plan = Plan(task.graph, run_threads, workers, handlers, port)
        return Launch(command, port, "/readyz", "/", plan.to_environment())

    return launch


def _litserve(python: Path, workers: int, run_threads: int) -> Callable[[Task, int], Launch]:
    def launch(task: Task, port: int) -> Launch:
        command = [str(python), "-m", "benchmarks.service.contestants.litserve_app"]
        plan = Plan(task.graph, run_threads, workers, 0, port)
        return Launch(command, port, "/health", "/predict", plan.to_environment())

    return launch


def _bentoml(python: Path, run_threads: int) -> Callable[[Task, int], Launch]:
    def launch(task: Task, port: int) -> Launch:
        plan = Plan(task.graph, run_threads, 1, 0, port)
        command = _serve(python, "stock_bentoml:Stock", port)
        return Launch(command, port, "/readyz", "/answer", {**_QUIET, **plan.to_environment()})

    return launch


def _serve(python: Path, service: str, port: int) -> list[str]:
    command = [str(python), "-m", "bentoml", "serve", f"benchmarks.service.contestants.{service}"]
    return [*command, "--host", "127.0.0.1", "--port", str(port)]
