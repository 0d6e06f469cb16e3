"""A job as a process of its own: train, going on from the last checkpoint, then evaluate.

    python -m training.reproduce.run_job JOB_JSON --data DIR --out RUNS [--deadline SECONDS]

Exit status: 0 finished, 1 failed with the reason as the last line, STOPPED (75) at a checkpoint. It stops, too, when
the process at the other end of its standard input goes away, so that a killed sweep leaves nothing running.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from training.reproduce.jobs import Job, is_trained
from training.run_folder import RunFolder
from training.run_lock import alone

FINISHED, FAILED, STOPPED = 0, 1, 75
PATIENCE = 60.0  # seconds, in which the job of a sweep that was killed comes to its checkpoint
SHARED_PHASES = "shared-phases"  # folder of RUNS: pre-training that several jobs start from


def run_job(job: Job, data: Path, runs: Path, deadline: float | None, patience: float = 0.0) -> int:
    """Train and evaluate ``job`` into its folder of ``runs``; ``deadline`` in seconds since the epoch.

    Returns FINISHED or STOPPED. Raises what training and evaluation raise, RunError if another process is at it and
    stays so for ``patience`` seconds.
    """
    import torch

    from training.evaluation import evaluate_run
    from training.shared_phases import SharedPhases
    from training.training_run import train_recipe

    folder = runs / job.name
    recipe = job.resolved()
    folder.mkdir(parents=True, exist_ok=True)  # it stays if the job fails: the job's log is there
    with alone(folder, patience):
        run = RunFolder(folder)
        if not (is_trained(job, run) and run.checkpoint_path.exists()):
            minutes = None if deadline is None else max(0.0, (deadline - time.time()) / 60)
            print("training", flush=True)
            shared = SharedPhases(runs / SHARED_PHASES)
            outcome = train_recipe(
                recipe, data, run, seed=job.seed, resume=True, max_minutes=minutes, shared=shared, held=True
            )
            if not outcome.finished:
                print(f"stopped at step {outcome.step} of {outcome.steps}", flush=True)
                return STOPPED
        print("evaluating", flush=True)
        torch.cuda.empty_cache()  # ONNX Runtime, which scores, has memory of its own
        evaluate_run(run, data, settings=recipe.evaluation)
        run.write_json("recipe.json", recipe.settings())  # with the evaluation's settings, if they were others
        print("finished", flush=True)
        return FINISHED


def _stop_with_the_parent() -> None:
    """Ask this process to stop at a checkpoint when standard input ends, which it does when the parent is gone."""

    def wait() -> None:
        while os.read(0, 1):  # not sys.stdin, whose lock a waiting thread would hold at exit
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def main() -> int:
    """Run the job of the command line and return its exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--deadline", type=float)
    arguments = parser.parse_args()
    described = json.loads(arguments.job)
    _stop_with_the_parent()
    try:
        job = Job(**{**described, "overrides": tuple(described["overrides"])})
        return run_job(job, arguments.data, arguments.out, arguments.deadline, PATIENCE)
    except Exception as error:
        ours = isinstance(error, OSError) or type(error).__module__.startswith(("serving.", "training."))
        if not ours:
            import traceback

            traceback.print_exc()
        print(f"error: {error}" if ours else f"error: {type(error).__name__}: {error}", flush=True)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
