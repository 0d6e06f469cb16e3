"""The contest: trials of every contestant's variants, then rounds of the best, the contestants alternating."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.multipart import CONTENT_TYPE, form
from benchmarks.processes import Server, ServerError, free_port, running
from benchmarks.service.line_up import OURS, RAW, Interpreters, Launch, Variant, empty_launch, server_variants
from benchmarks.service.load import Load, LoadError, run_wrk
from benchmarks.service.raw import RawPlan, plans
from benchmarks.service.results import Measurement, Results, best_variant, ranking
from benchmarks.service.work import Work, agrees
from benchmarks.service.workloads import TASKS, Task, Workload

ROOT = Path(__file__).parents[2]
WARM_SECONDS = 1
RAW_FINALISTS = 3  # plans of (a) that are tried twice more


@dataclass
class Contest:
    """Runs contestants over workloads at numbers of connections, and adds what it measures to ``results``.

    ``seconds`` of one measurement, ``trial_seconds`` of one trial. ``cores`` that the contestants may share.
    """

    contestants: Sequence[str]
    workloads: Sequence[Workload]
    connections: Sequence[int]
    seconds: int
    trial_seconds: int
    pythons: Interpreters
    cores: int
    results: Results
    serve_options: Sequence[str] = ()
    cuda: bool = False
    batches: Sequence[int] = (1, 4, 8)
    _best: dict[tuple[str, int, str], str] = field(default_factory=dict)

    def try_variants(self) -> None:
        """Measure every variant of every contestant for a short while, and settle on the best for each cell.

        Those of (a) lie close together, and all ratios rest on the choice: its RAW_FINALISTS best are tried twice more.
        """
        for contestant in self.contestants:
            for task in self._tasks():
                if contestant == RAW:
                    self._try_raw(task)
                else:
                    variants = self._variants(contestant)
                    for variant in variants:
                        if len(variants) > 1:
                            self._measure_server(contestant, variant, task, None)
        trials: dict[tuple[str, int, str], list[Measurement]] = {}
        for one in self.results.measurements:
            trials.setdefault((one.workload, one.connections, one.contestant), []).append(one)
        self._best = {key: best_variant(found) for key, found in trials.items()}

    def run_round(self, number: int) -> None:
        """Measure every contestant's best variants once; each round begins with another contestant."""
        turn = number % len(self.contestants)
        for task in self._tasks():
            for contestant in [*self.contestants[turn:], *self.contestants[:turn]]:
                if contestant == RAW:
                    for workload, connections in self._loads(task):
                        title = self._best[workload.name, connections, RAW]
                        [plan] = [plan for plan in self._raw_plans(connections) if plan.title == title]
                        self._measure_raw(workload, connections, plan, number)
                else:
                    for variant in self._variants(contestant):
                        self._measure_server(contestant, variant, task, number)

    def time_to_ready(self, starts: int) -> None:
        """Start our service and the empty BentoML service in turn, after one start of each that does not count."""
        [ours] = self._variants(OURS)
        for start in range(starts + 1):
            for name in (OURS, "empty"):
                launch = (
                    empty_launch(self.pythons, free_port())
                    if name == "empty"
                    else ours.launch(_any_task(), free_port())
                )
                with _server(launch) as server:
                    if start > 0:
                        self.results.ready.setdefault(name, []).append(server.ready_seconds)
                        _note(f"start {start}: {name} ready after {server.ready_seconds:.2f} s")

    def _tasks(self) -> list[Task]:
        return [task for task in TASKS.values() if any(workload.task is task for workload in self.workloads)]

    def _loads(self, task: Task) -> list[tuple[Workload, int]]:
        return [(one, connections) for one in self.workloads if one.task is task for connections in self.connections]

    def _variants(self, contestant: str) -> list[Variant]:
        return server_variants(contestant, self.pythons, self.cores, self.serve_options, self.cuda)

    def _raw_plans(self, connections: int) -> list[RawPlan]:
        return plans(connections, self.cores, self.batches, self.cuda)

    def _try_raw(self, task: Task) -> None:
        for workload, connections in self._loads(task):
            by_title = {plan.title: plan for plan in self._raw_plans(connections)}
            tried = [self._measure_raw(workload, connections, plan, None) for plan in by_title.values()]
            for title in 2 * ranking(tried)[:RAW_FINALISTS]:
                self._measure_raw(workload, connections, by_title[title], None)

    def _measure_raw(self, workload: Workload, connections: int, plan: RawPlan, number: int | None) -> Measurement:
        seconds = self.trial_seconds if number is None else self.seconds
        command = [str(self.pythons.service), "-m", "benchmarks.service.raw", workload.name]
        command += ["--in-flight", str(connections), "--seconds", str(seconds), "--batch", str(plan.batch)]
        command += ["--runners", str(plan.runners), "--run-threads", str(plan.run_threads)]
        command += ["--spinning"] * plan.spinning + ["--cuda"] * self.cuda
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
        load = Load(**json.loads(done.stdout))
        one = Measurement(workload.name, connections, RAW, plan.title, number, load, load.cpu_seconds)
        self._add(one)
        return one

    def _measure_server(self, contestant: str, variant: Variant, task: Task, number: int | None) -> None:
        loads = [
            (workload, connections)
            for workload, connections in self._loads(task)
            if number is None
            or self._best.get((workload.name, connections, contestant), variant.title) == variant.title
        ]
        if not loads:
            return
        launch = variant.launch(task, free_port())
        try:
            with _server(launch) as server:
                for workload, connections in loads:
                    self._load(contestant, variant, server, launch, workload, connections, number)
                if contestant == OURS:
                    resident = [worker.memory_info().rss for worker in server.workers()]
                    self.results.memory.setdefault(task.name, []).append(resident)
        except (ServerError, LoadError) as error:
            self._wrong(f"{contestant} ({variant.title}), {task.name}: {error}")

    def _load(
        self,
        contestant: str,
        variant: Variant,
        server: Server,
        launch: Launch,
        workload: Workload,
        connections: int,
        number: int | None,
    ) -> None:
        url, body = server.url + launch.path, form([workload.data], launch.fields)
        wanted = Work(workload.task.graph, 1).answer_file(workload.data)
        where = f"{contestant} ({variant.title}), {workload.name}, {connections} connections"
        if not self._answers_well(url, body, wanted, f"{where}, before load"):
            return
        run_wrk(url, body, CONTENT_TYPE, connections, WARM_SECONDS)
        server.settle()
        used = server.cpu_seconds()
        load = run_wrk(url, body, CONTENT_TYPE, connections, self.trial_seconds if number is None else self.seconds)
        used = server.cpu_seconds() - used
        self._add(Measurement(workload.name, connections, contestant, variant.title, number, load, used))
        if load.failed:
            self._wrong(f"{where}: {load.failed} requests failed")
        self._answers_well(url, body, wanted, f"{where}, after load")

    def _answers_well(self, url: str, body: bytes, wanted: dict[str, object], where: str) -> bool:
        request = urllib.request.Request(url, body, {"Content-Type": CONTENT_TYPE})
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
                given = json.load(answer)
            problem = None if agrees(given, wanted) else f"answered {given}, expected {wanted}"
        except OSError as error:  # an HTTP status of an error is one
            problem = f"answered {error}"
        if problem:
            self._wrong(f"{where}: {problem}")
        return problem is None

    def _wrong(self, what: str) -> None:
        self.results.wrong.append(what)
        _note(f"WRONG: {what}")

    def _add(self, one: Measurement) -> None:
        self.results.measurements.append(one)
        stage = "trial" if one.round is None else f"round {one.round + 1}"
        _note(
            f"{stage}: {one.workload}, {one.connections} connections, {one.contestant} ({one.variant}): "
            f"{one.load.requests_per_second:.1f}/s, p50 {one.load.p50:.2f} ms"
        )


@contextmanager
def _server(launch: Launch) -> Iterator[Server]:
    environment = {"PYTHONPATH": str(ROOT), **launch.environment}
    with running(launch.command, launch.port, launch.ready_path, environment) as server:
        yield server


def _any_task() -> Task:
    return next(iter(TASKS.values()))


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
