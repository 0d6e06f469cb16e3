"""What `quarterturn score` reaches of raw ONNX Runtime: images per second, from files to rows, against the graph alone.

Raw is `graph.run` on batches decoded beforehand, in its best form on this machine: of several batch sizes, one run at a
time in all cores' threads, which spin or sleep while they wait, or one single-threaded run a core. Every form is tried
once and the best of them twice more. Of several models, those that run by default, raw runs one after the other on the
same images. Scoring finds, reads and decodes the files, runs the graph and writes a CSV file; the graph is loaded
beforehand. Both take the same images, and take turns at going first; the ratio of each round is taken. With small PNG
files it should be 0.9 or more. A large image takes longer to decode than a small graph takes to run: `possible` is the
ratio that the cores would reach if they decoded and ran the graph and lost nothing in between.
`CPU` is the processor time an image costs raw, divided by what it costs to score: of the two ratios the one that holds
on a busy machine.

    python -m benchmarks.score [--seconds 5] [--rounds 5] [--model NAME]... [--kind png]...
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.conditions import conditions
from benchmarks.service.pictures import MEGAPIXEL, jpeg, png, textured
from serving.graphs.graph import Graph, load_graph
from serving.graphs.providers import CPU, available_cores
from serving.images.image_file import OpenedImage, read_image
from serving.score.pipeline import Scorer
from serving.score.table import score_table
from serving.settings import Settings, default_models_folder

DEFAULT = "default"  # what the command scores with where no model is named
MODELS = (DEFAULT, "cifar10-rotations", "cifar10-transformations")
KINDS = {"png": "32 x 32 PNG", "jpeg": "1-megapixel JPEG"}
BATCHES = (1, 2, 4, 8, 16, 32, 64)
GPU_BATCHES = (16, 64, 256, 1024)
DISTINCT = 64  # different pictures; the files repeat them
TRIAL_SECONDS = 0.7
FINALISTS = 4  # plans that are tried three times: of one short trial, luck has a part in who is first


@dataclass(frozen=True)
class Plan:
    """One way to run a graph: ``runs`` at a time, each of ``batch`` images in ``threads`` threads.

    ``spinning``: the threads of a run wait busily for each other, ONNX Runtime's default.
    """

    batch: int
    runs: int
    threads: int
    spinning: bool = False

    def __str__(self) -> str:
        return f"batch {self.batch}, {self.runs} x {self.threads}{', spinning' if self.spinning else ''}"


@dataclass(frozen=True)
class Figures:
    """Images per second of some models and a kind of image, as medians; ratios of each round, of speed and CPU time."""

    plans: list[Plan]
    raw: float
    score: float
    decoding: float
    ratios: list[float]
    cpu_ratios: list[float]

    @property
    def possible(self) -> float:
        """The ratio of cores that decode and run the graph with nothing lost between."""
        return 1 / (1 + self.raw / self.decoding)


def pictures(kind: str) -> list[bytes]:
    """Return DISTINCT image files of a kind of KINDS."""
    if kind == "png":
        return [png(textured(32, 32, seed)) for seed in range(DISTINCT)]
    return [jpeg(textured(*MEGAPIXEL, seed)) for seed in range(DISTINCT)]


def plans(provider: str) -> list[Plan]:
    """Return the ways to run a graph raw: on a CPU one run in all cores' threads, or one a core; on a GPU 1 or 2."""
    if provider != CPU:
        return [Plan(batch, runs, 1) for batch in GPU_BATCHES for runs in (1, 2)]
    cores = available_cores()
    if cores == 1:
        return [Plan(batch, 1, 1) for batch in BATCHES]
    together = [Plan(batch, 1, cores, spinning) for spinning in (False, True) for batch in BATCHES]
    return together + [Plan(batch, cores, 1) for batch in BATCHES]


def best_plan(plans: Sequence[Plan], speed: Callable[[Plan], float]) -> Plan:
    """Return the fastest plan: ``speed`` is asked of each once, of the best FINALISTS twice more; medians count."""
    trials = {plan: [speed(plan)] for plan in plans}
    finalists = sorted(plans, key=lambda plan: trials[plan], reverse=True)[:FINALISTS]
    for again in (finalists, finalists[::-1]):
        for plan in again:
            trials[plan].append(speed(plan))
    return max(finalists, key=lambda plan: statistics.median(trials[plan]))


def best_plan_of(graph: Graph, images: NDArray[np.uint8]) -> Plan:
    """Try the ways to run a graph raw."""
    return best_plan(plans(graph.provider), lambda plan: raw_speed(loaded(graph, plan), images, plan, TRIAL_SECONDS)[0])


def loaded(graph: Graph, plan: Plan) -> Graph:
    """Return the same graph with a session of its own, as the plan says."""
    again = load_graph(graph.path, "auto" if graph.provider != CPU else "cpu", plan.threads)
    if not plan.spinning:
        return again
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = plan.threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    session = onnxruntime.InferenceSession(graph.path.read_bytes(), options, providers=[CPU])
    return replace(again, session=session)


class Stopwatch:
    """Measures from its making: images per second, and seconds of processor time an image."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self, images: int) -> tuple[float, float]:
        """Return both for so many images."""
        return images / (time.perf_counter() - self._wall), (time.process_time() - self._cpu) / images


def raw_speed(graph: Graph, images: NDArray[np.uint8], plan: Plan, seconds: float) -> tuple[float, float]:
    """Time ``graph.run`` on batches of ``images``, again and again for so many seconds; see ``Stopwatch``."""
    repeated = np.resize(images, (max(len(images), plan.batch), *images.shape[1:]))
    batches = [repeated[start : start + plan.batch] for start in range(0, len(images), plan.batch)]
    batches = [batch for batch in batches if len(batch) == plan.batch]
    watch, began = Stopwatch(), time.perf_counter()

    def run(start: int) -> int:
        done = 0
        while not done or time.perf_counter() < began + seconds:
            graph.run(batches[(start + done) % len(batches)])
            done += 1
        return done

    with ThreadPoolExecutor(plan.runs) as pool:
        done = sum(pool.map(run, range(plan.runs)))
    return watch.stop(done * plan.batch)


def raw_speed_of_all(
    graphs: Sequence[Graph], images: Sequence[NDArray[np.uint8]], plans: Sequence[Plan], seconds: float
) -> tuple[float, float]:
    """Time each graph in turn, ``seconds`` in all; images per second through all of them, and processor time of one."""
    measured = [
        raw_speed(graph, its, plan, seconds / len(graphs))
        for graph, its, plan in zip(graphs, images, plans, strict=True)
    ]
    return 1 / sum(1 / speed for speed, _ in measured), sum(cpu for _, cpu in measured)


def score_speed(scorer: Scorer, folder: Path) -> tuple[float, float]:
    """Time the way from the files of ``folder`` to a CSV file; see ``Stopwatch``."""
    with tempfile.TemporaryDirectory() as out:
        watch = Stopwatch()
        summary = score_table([folder], Path(out) / "scores.csv", scorer, 0.05, progress=lambda done, total: None)
        measured = watch.stop(summary.files)
    assert summary.bad == 0
    return measured


def decoding_speed(data: Sequence[bytes], graphs: Sequence[Graph], seconds: float) -> float:
    """Return images per second of decoding and fitting alone, in a thread a core."""
    fittings = {graph.manifest.fitting for graph in graphs}
    began = time.perf_counter()

    def run(start: int) -> int:
        done = 0
        while not done or time.perf_counter() < began + seconds:
            OpenedImage(data[(start + done) % len(data)]).fit(fittings)
            done += 1
        return done

    with ThreadPoolExecutor(available_cores()) as pool:
        return sum(pool.map(run, range(available_cores()))) / (time.perf_counter() - began)


def measure(models: Path, model: str, kind: str, seconds: float, rounds: int) -> Figures:
    """Alternate raw and scoring, each of about so many seconds, after short trials of every plan.

    ``model``: a name, or DEFAULT.
    """
    data = pictures(kind)
    scorer = Scorer.load(Settings(models=models), [] if model == DEFAULT else [model])
    graphs = scorer.graphs
    images = [np.stack([read_image(file, graph.manifest.fitting) for file in data]) for graph in graphs]
    chosen = [best_plan_of(graph, its) for graph, its in zip(graphs, images, strict=True)]
    alone = [loaded(graph, plan) for graph, plan in zip(graphs, chosen, strict=True)]
    speed = raw_speed_of_all(alone, images, chosen, len(graphs) * TRIAL_SECONDS)[0]
    count = max(DISTINCT, round(seconds / (1 / speed + 1 / decoding_speed(data, graphs, TRIAL_SECONDS))))
    raw, score, decoded = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(count):
            (Path(folder) / f"{index:06}.{kind}").write_bytes(data[index % len(data)])
        for turn in range(rounds):
            if turn % 2:
                score.append(score_speed(scorer, Path(folder)))
            raw.append(raw_speed_of_all(alone, images, chosen, seconds))
            if not turn % 2:
                score.append(score_speed(scorer, Path(folder)))
            decoded.append(decoding_speed(data, graphs, TRIAL_SECONDS))
    return Figures(
        chosen,
        raw=statistics.median(speed for speed, _ in raw),
        score=statistics.median(speed for speed, _ in score),
        decoding=statistics.median(decoded),
        ratios=[one / other for (one, _), (other, _) in zip(score, raw, strict=True)],
        cpu_ratios=[other / one for (_, one), (_, other) in zip(score, raw, strict=True)],
    )


def spread(values: Sequence[float]) -> str:
    """Return the median, and from where to where the values lie."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Measure what the arguments name, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=Path, default=default_models_folder())
    parser.add_argument("--model", action="append", help=f"repeatable; {DEFAULT!r}: those that run by default")
    parser.add_argument("--kind", action="append", choices=KINDS, help="repeatable")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each contestant in a round")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    for name, value in conditions(["python", "-m", "benchmarks.score"]).items():
        print(f"{name}: {value}")
    print(f"\n{given.rounds} rounds of about {given.seconds:g} s, alternating; medians of images per second\n")
    print("| model | image | best raw plan | raw | score | score / raw (min to max) | CPU (min to max) | possible |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for model in given.model or MODELS:
        for kind in given.kind or KINDS:
            found = measure(given.models, model, kind, given.seconds, given.rounds)
            print(
                f"| {model} | {KINDS[kind]} | {'; '.join(map(str, found.plans))} | {found.raw:.0f} | {found.score:.0f} "
                f"| {spread(found.ratios)} | {spread(found.cpu_ratios)} | {found.possible:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
