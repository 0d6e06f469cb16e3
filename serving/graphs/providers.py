"""Execution providers: where ONNX Runtime runs a graph, chosen at start and logged.

Asked for CUDA where it cannot load, ONNX Runtime silently gives a session on the CPU: what counts is what the session
says of itself. Sessions on the CPU draw their working memory from one arena of the process.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from collections.abc import Sequence
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime

from serving.graphs.manifest import METADATA_KEY, ManifestError, parse_manifest
from serving.graphs.session_on_own_cores import SessionOnOwnCores, session_options
from serving.graphs.session_per_batch_size import SessionPerBatchSize

ProviderChoice = Literal["auto", "cpu", "cuda"]

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
# HEURISTIC was the fastest search, and needs no tuning. No TF32: scores agree with those on a CPU. It rounds to as many
# bits as fp16 has, so fp16 graphs may use it; without it ONNX Runtime says on standard error of every convolution in
# fp16 that no plan supports it, and then finds one. Channels last is faster in fp16, and slower in fp32 without TF32
# (docs/performance.md: on an H200).
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
_FP16_CUDA_OPTIONS = {**_CUDA_OPTIONS, "use_tf32": "1", "prefer_nhwc": "1"}
_LOG_ERRORS_ONLY = 3
_SAME_AS_REQUESTED = 1  # the arena grows by what is asked for, and not by the next power of two

_log = logging.getLogger(__name__)
_saying, _said = threading.Lock(), set[str]()
_making_arena = threading.Lock()


class ProviderError(RuntimeError):
    """The GPU that the settings demand cannot be used; the message says why."""


def open_session(
    model: bytes, choice: ProviderChoice, threads: int | None = None, gpu: int = 0, cores: Sequence[int] = ()
) -> Any:
    """Return an onnxruntime.InferenceSession of a serialised model on the CPU, or a SessionPerBatchSize on the GPU.

    ``auto`` takes CUDA where a blank image runs on it and else the CPU, saying why in the log; ``cuda`` raises
    ProviderError where there is no CUDA. ``threads`` within one run, None for all available cores; of several GPUs
    it is number ``gpu``, counted round. ``cores``, of the CPU: one for each thread, and the session is a
    SessionOnOwnCores. ONNX Runtime's own exceptions pass through.
    """
    if choice == "cpu":
        return SessionOnOwnCores(_open_on_cpu(model, threads, cores), cores) if cores else _open_on_cpu(model, threads)
    gpus, obstacle = _gpus()
    if gpus:
        onnxruntime.preload_dlls()
        session = _open_on_gpu(model, threads, gpu % gpus)
        obstacle = "ONNX Runtime could not load CUDA or cuDNN (in the checkout: pip install -e '.[gpu]')"
        if CUDA in session.get_providers():
            problem = _problem_of_running(session) if choice == "auto" else None
            if problem is None:
                return session
            obstacle = f"a blank image does not run on the GPU: {problem}"
    if choice == "cuda":
        raise ProviderError(f"the device setting is cuda, but {obstacle}")
    _say_why_not_on_a_gpu(obstacle)
    return _open_on_cpu(model, threads)


def _open_on_gpu(model: bytes, threads: int | None, gpu: int) -> Any:
    """Open a session on a GPU, or on the CPU where that cannot be loaded.

    Only a session tells the precision of its graph, so that of a graph in fp16 is opened twice.
    """

    onnxruntime.set_default_logger_severity(_LOG_ERRORS_ONLY)  # else each session warns of plugins that are not there

    def opened(options: dict[str, str]) -> Any:
        cuda = (CUDA, {**options, "device_id": str(gpu)})
        return onnxruntime.InferenceSession(model, _options(threads), providers=[cuda, CPU])

    options = _CUDA_OPTIONS
    session = opened(options)
    if CUDA not in session.get_providers():
        return session
    if _is_fp16(session):
        options = _FP16_CUDA_OPTIONS
        session = opened(options)
    return SessionPerBatchSize(session, lambda: opened(options))


def _is_fp16(session: Any) -> bool:
    try:
        return parse_manifest(session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)).precision == "fp16"
    except ManifestError:  # whoever needs the manifest says so
        return False


def _problem_of_running(session: Any) -> str | None:
    """Run a blank image: without cuDNN a session opens on CUDA all the same, and its first convolution fails."""
    [image, *_] = session.get_inputs()
    shape = [length if isinstance(length, int) else 1 for length in image.shape]
    try:
        session.run(None, {image.name: np.zeros(shape, np.uint8)})
    except Exception as error:  # onnxruntime's exceptions share no other base
        return (str(error).splitlines() or [type(error).__name__])[0]
    return None


def _options(threads: int | None, cores: Sequence[int] = ()) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cores()
    options.log_severity_level = _LOG_ERRORS_ONLY
    entries = session_options(cores) if cores else {"session.intra_op.allow_spinning": "0"}
    for name, value in entries.items():
        options.add_session_config_entry(name, value)
    return options


def _open_on_cpu(model: bytes, threads: int | None, cores: Sequence[int] = ()) -> Any:
    with _making_arena:  # graphs are loaded side by side
        _make_shared_arena()
    options = _options(threads, cores)
    options.add_session_config_entry("session.use_env_allocators", "1")
    return onnxruntime.InferenceSession(model, options, providers=[CPU])


@cache
def _make_shared_arena() -> None:
    """Make the arena; each session would keep one of its own, as large as its largest runs."""
    kind, use = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    arena = onnxruntime.OrtArenaCfg({"arena_extend_strategy": _SAME_AS_REQUESTED})
    onnxruntime.create_and_register_allocator(onnxruntime.OrtMemoryInfo("Cpu", kind, 0, use), arena)


def _say_why_not_on_a_gpu(obstacle: str) -> None:
    """Log it, once a process and not once a graph: graphs are loaded side by side."""
    with _saying:
        if obstacle not in _said:
            _said.add(obstacle)
            _log.info("running on the CPU: %s", obstacle)


def available_cores() -> int:
    """Return how many cores this process may use: its affinity, within a container's CPU limit; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, ceil(int(quota) / int(period))))


def _gpus() -> tuple[int, str]:
    """Return how many GPUs there are and, where there are none, why, without the error output of an attempt."""
    if CUDA not in onnxruntime.get_available_providers():
        return 0, "this ONNX Runtime is built without CUDA"
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0, "there is no NVIDIA driver"
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return 0, "no NVIDIA GPU is visible"
    return count.value, ""
