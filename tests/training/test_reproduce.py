from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.training.here_engine import HereEngine
from training.recipe import Scale
from training.recipe_files import load_recipe
from training.reproduce.engine import Engine, EngineError
from training.reproduce.engine_local import LocalEngine
from training.reproduce.jobs import Job, is_finished, plan, sweep_overrides
from training.reproduce.reproduce import open_engine, summary
from training.reproduce.run_job import STOPPED, run_job
from training.reproduce.sweep import SweepOutcome, run_sweep
from training.reproduce.sweep_display import share_trained
from training.reproduce.targets import TARGETS, TargetError, find_target
from training.run_folder import RunError, RunFolder

FEW = ("evaluation.ood=[]", "data.limit_per_class=12")


def job(recipe: str = "cifar10-baseline", seed: int = 0, *overrides: str) -> Job:
    return Job(recipe, "smoke", seed, (*FEW, *overrides))


def test_a_job_has_one_telling_name() -> None:
    assert Job("cifar10-labels-none", "cpu", 1, ("labels.strength=0.3",)).name == (
        "cifar10-labels-none_strength-0.3_cpu_seed-1"
    )
    assert Job("a", "paper", 0, ('data.in_class="big horse"',)).name == "a_in-class-big-horse_paper_seed-0"


def test_a_sweep_is_a_job_a_value_and_seed() -> None:
    jobs = plan(TARGETS["figure-4"], "paper", 2)
    assert len({job.name for job in jobs}) == len(jobs)
    ours = [job for job in jobs if job.recipe == "cifar10-labels-none"]
    assert len(ours) == 22
    strengths = [job.resolved().settings()["labels"]["strength"] for job in ours if job.seed == 1]
    assert strengths == pytest.approx([tenth / 10 for tenth in range(11)])
    assert [job.seed for job in jobs] == sorted(job.seed for job in jobs)  # whole seeds first


@pytest.mark.parametrize("scale", ["paper", "cpu", "smoke"])
def test_a_network_of_two_targets_is_one_job(scale: Scale) -> None:
    table, figure = plan(TARGETS["table-1"], scale, 1), plan(TARGETS["figure-2"], scale, 1)
    assert {job.name for job in figure} <= {job.name for job in table}


def test_every_job_of_every_target_resolves() -> None:
    for target in TARGETS.values():
        for planned in plan(target, "smoke", 1):
            assert planned.resolved().name == planned.recipe
    assert sweep_overrides(load_recipe("cifar10-baseline")) == [()]


def test_targets_that_are_not_there_are_refused() -> None:
    with pytest.raises(TargetError, match=r"table-3.*yet"):
        find_target("table-3")
    with pytest.raises(TargetError, match="there are table-1"):
        find_target("table-9")
    with pytest.raises(EngineError, match="local, ray"):
        open_engine("slurm", 1)


@dataclass(frozen=True)
class Swept:
    """A first sweep: a job that fails, as there is no such data set, and one that goes well."""

    engine: HereEngine
    runs: Path
    bad: Job
    good: Job
    outcome: SweepOutcome


@pytest.fixture(scope="module")
def swept(small_cifar10: Path, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    runs, engine = tmp_path_factory.mktemp("runs"), HereEngine()
    bad, good = job("cifar10-baseline", 0, "data.name=nothing"), job()
    checked: Engine = engine
    return Swept(engine, runs, bad, good, run_sweep([bad, good], small_cifar10, runs, checked))


def test_a_failure_is_told_and_the_rest_goes_on(swept: Swept) -> None:
    assert swept.outcome.finished == [swept.good]
    (failure,) = swept.outcome.failures
    assert (failure.job, failure.log) == (swept.bad, swept.runs / swept.bad.name / "log.txt")
    assert "no data set 'nothing'" in failure.reason
    assert swept.outcome.exit_status == 1
    assert str(failure.log) in summary(swept.outcome, swept.runs)[-1]
    assert share_trained(swept.good, swept.runs) == 1.0


def test_only_what_is_not_finished_runs_again(swept: Swept, small_cifar10: Path) -> None:
    swept.engine.started.clear()
    outcome = run_sweep([swept.good, swept.bad], small_cifar10, swept.runs, swept.engine)
    assert swept.engine.started == [swept.bad.name]
    assert outcome.finished_before == [swept.good]


def test_a_run_without_its_evaluation_is_not_finished(swept: Swept, tmp_path: Path) -> None:
    """As a sweep killed between training and evaluation leaves it."""
    run = RunFolder(tmp_path / "run")
    shutil.copytree(swept.runs / swept.good.name, run.path)
    assert is_finished(swept.good, run)
    evaluation = json.loads((run.path / "evaluation.json").read_text())
    run.write_json("evaluation.json", {**evaluation, "seed": 7})
    assert not is_finished(swept.good, run), "it is of an earlier training into this folder"
    (run.path / "evaluation.json").unlink()
    assert not is_finished(swept.good, run)


def test_another_training_in_the_folder_is_not_taken_for_this_one(
    swept: Swept, small_cifar10: Path, tmp_path: Path
) -> None:
    other = job(seed=1)
    shutil.copytree(swept.runs / swept.good.name, tmp_path / other.name)
    with pytest.raises(RunError, match=r"seed \(0 there, 1 here\)"):
        is_finished(other, RunFolder(tmp_path / other.name))
    outcome = run_sweep([other], small_cifar10, tmp_path, HereEngine())
    assert "of another training" in outcome.failures[0].reason


def test_another_precision_is_another_training_and_auto_is_what_it_was(swept: Swept, tmp_path: Path) -> None:
    asked = {name: job("cifar10-baseline", 0, f"trainer.precision={name}") for name in ("32-true", "bf16-mixed")}
    run = RunFolder(tmp_path / "run")
    shutil.copytree(swept.runs / swept.good.name, run.path)
    record = run.training_record()
    assert record["precision"] == "32-true"
    assert is_finished(swept.good, run)
    assert is_finished(asked["32-true"], run)
    with pytest.raises(RunError, match=r"trainer.precision \(32-true there, bf16-mixed here\)"):
        is_finished(asked["bf16-mixed"], run)
    del record["precision"]  # as an earlier version left it
    run.write_json("training.json", record)
    assert is_finished(asked["32-true"], run)
    with pytest.raises(RunError, match=r"trainer\.precision"):
        is_finished(asked["bf16-mixed"], run)
    run.write_json("training.json", {**record, "device": "NVIDIA H100"})
    assert is_finished(swept.good, run), "on a GPU 'auto' is bf16-mixed, wherever it is asked"
    assert is_finished(asked["bf16-mixed"], run)
    with pytest.raises(RunError, match=r"trainer.precision \(bf16-mixed there, 32-true here\)"):
        is_finished(asked["32-true"], run)


def test_where_the_evaluation_alone_differs_nothing_is_trained_again(
    swept: Swept, small_cifar10: Path, tmp_path: Path
) -> None:
    """Nor where the run is of a version that did not write the settings into the evaluation."""
    fewer = job("cifar10-baseline", 0, "evaluation.limit=6")
    run = RunFolder(tmp_path / fewer.name)
    shutil.copytree(swept.runs / swept.good.name, run.path)
    evaluation = json.loads((run.path / "evaluation.json").read_text())
    assert evaluation.pop("settings") == swept.good.resolved().settings()["evaluation"]
    run.write_json("evaluation.json", evaluation)
    weights, environment = run.checkpoint_path.read_bytes(), (run.path / "environment.json").read_bytes()
    assert is_finished(swept.good, run)
    assert not is_finished(fewer, run)
    assert run_sweep([fewer], small_cifar10, tmp_path, HereEngine()).finished == [fewer]
    assert json.loads((run.path / "evaluation.json").read_text())["in_distribution"]["count"] == 6
    assert run.recipe().evaluation.limit == 6
    assert (run.checkpoint_path.read_bytes(), (run.path / "environment.json").read_bytes()) == (weights, environment)
    assert is_finished(fewer, run)
    assert not is_finished(swept.good, run)
    run.checkpoint_path.unlink()
    with pytest.raises(RunError, match="no checkpoint to evaluate"):
        is_finished(swept.good, run)


def test_out_of_time_a_job_stops_at_a_checkpoint(small_cifar10: Path, tmp_path: Path) -> None:
    late = job("cifar10-baseline", 0, "optimiser.epochs=5")
    assert run_job(late, small_cifar10, tmp_path, time.time() - 1) == STOPPED
    assert not is_finished(late, RunFolder(tmp_path / late.name))
    assert 0 < share_trained(late, tmp_path) < 1
    outcome = run_sweep([late], small_cifar10, tmp_path, HereEngine(), max_minutes=0)
    assert (outcome.stopped, outcome.exit_status) == ([late], STOPPED)


def test_places_and_threads_share_the_machine() -> None:
    two = LocalEngine(jobs=5, gpus=[], cores=2)
    assert two.places in (1, 2)  # as memory allows
    assert two.environment(0)["OMP_NUM_THREADS"] == str(2 // two.places)
    alone = LocalEngine(jobs=1, gpus=[], cores=8)
    assert (alone.places, alone.environment(0)["OMP_NUM_THREADS"]) == (1, "8")
    gpus = LocalEngine(jobs=5, gpus=["2", "5"], cores=8)
    assert gpus.places == 2
    assert gpus.environment(1) == {"OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "5"}


def test_a_job_is_a_process_that_stops_at_a_checkpoint_when_its_sweep_is_killed(
    small_cifar10: Path, tmp_path: Path
) -> None:
    """So that the next sweep finds no one at work in the folder, and goes on from there."""
    long = Job("cifar10-baseline", "smoke", 0, (*FEW, "optimiser.epochs=4000", "trainer.checkpoint_minutes=0.002"))
    described = {"jobs": [[long.recipe, long.scale, long.seed, list(long.overrides)]]}
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from training.reproduce.engine_local import LocalEngine\n"
        "from training.reproduce.jobs import Job\n"
        "from training.reproduce.sweep import run_sweep\n"
        "jobs = [Job(r, s, n, tuple(o)) for r, s, n, o in json.loads(sys.argv[1])['jobs']]\n"
        "run_sweep(jobs, Path(sys.argv[2]), Path(sys.argv[3]), LocalEngine(1, gpus=[], cores=1))\n"
    )
    command = [sys.executable, "-c", code, json.dumps(described), str(small_cifar10), str(tmp_path)]
    sweep = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    run = RunFolder(tmp_path / long.name)
    wait_for(lambda: run.checkpoint_path.exists())
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    log = run.path / "log.txt"
    wait_for(lambda: "stopped at step" in log.read_text())
    assert 0 < run.load_checkpoint()["step"] < 4000


def wait_for(happened: object, seconds: float = 120) -> None:
    assert callable(happened)
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
