from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime
import pytest

from serving.graphs import providers
from serving.graphs.providers import CPU, CUDA, ProviderChoice, ProviderError, available_cores, open_session
from serving.settings import Settings
from tests.fuzz.memory import printed_by
from tests.graphs import build_graph


@pytest.fixture(scope="module")
def model() -> bytes:
    return bytes(build_graph().SerializeToString())


@pytest.fixture(scope="module")
def has_gpu() -> bool:
    return CUDA in onnxruntime.get_available_providers() and os.path.exists("/dev/nvidia0")


def test_cpu(model: bytes) -> None:
    options = open_session(model, "cpu", threads=1).get_session_options()
    assert options.intra_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_threads_are_the_cores_where_none_are_set(model: bytes) -> None:
    assert open_session(model, "cpu").get_session_options().intra_op_num_threads == available_cores()
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


def test_auto_without_a_gpu_is_the_cpu_and_says_why_once(
    model: bytes,
    has_gpu: bool,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if has_gpu:
        pytest.skip("there is a GPU")
    monkeypatch.setattr(providers, "_said", set())
    with caplog.at_level(logging.INFO, logger="serving.graphs.providers"), ThreadPoolExecutor(8) as threads:
        sessions = list(threads.map(lambda _: open_session(model, "auto", threads=1), range(8)))
    assert [session.get_providers() for session in sessions] == [[CPU]] * 8
    [message] = caplog.messages
    assert message.startswith("running on the CPU: ")
    assert capfd.readouterr().err == ""


def test_cuda_without_a_gpu_is_fatal(model: bytes, has_gpu: bool) -> None:
    if has_gpu:
        pytest.skip("there is a GPU")
    with pytest.raises(ProviderError, match="the device setting is cuda, but "):
        open_session(model, "cuda", threads=1)


@pytest.mark.parametrize("choice", ["auto", "cuda"])
def test_a_gpu_is_used(model: bytes, has_gpu: bool, choice: ProviderChoice) -> None:
    if not has_gpu:
        pytest.skip("there is no GPU")
    assert open_session(model, choice).get_providers()[0] == CUDA


class OnGpu:
    """A session that says it is on a GPU, which this machine lacks."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self.get_inputs, self.get_modelmeta, self.run = session.get_inputs, session.get_modelmeta, session.run

    def get_providers(self) -> list[str]:
        return [CUDA, CPU]


class WithoutCudnn(OnGpu):
    """A session as it is where there is a GPU and no cuDNN."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        super().__init__(session)
        self.run = self.fail

    def fail(self, *_: object) -> None:
        raise RuntimeError("cuDNN is unavailable\nand so on")


# Makes GPU sessions of the class given; returns the options that each is opened with, as they come.
GpuSessions = Callable[[type[OnGpu]], list[dict[str, str]]]


@pytest.fixture
def gpu_sessions(monkeypatch: pytest.MonkeyPatch) -> GpuSessions:
    """Let there be two GPUs."""

    def install(kind: type[OnGpu]) -> list[dict[str, str]]:
        real, asked = onnxruntime.InferenceSession, list[dict[str, str]]()

        def opened(data: bytes, options: onnxruntime.SessionOptions, providers: list[Any]) -> object:
            session = real(data, options, providers=[CPU])
            if providers == [CPU]:
                return session
            [(name, cuda), _] = providers
            assert name == CUDA
            asked.append(cuda)
            return kind(session)

        monkeypatch.setattr(providers, "_said", set())
        monkeypatch.setattr(providers, "_gpus", lambda: (2, ""))
        monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
        monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
        return asked

    return install


def test_auto_takes_the_cpu_where_a_session_opens_on_a_gpu_and_does_not_run(
    model: bytes, caplog: pytest.LogCaptureFixture, gpu_sessions: GpuSessions
) -> None:
    gpu_sessions(WithoutCudnn)
    with caplog.at_level(logging.INFO, logger="serving.graphs.providers"):
        assert open_session(model, "auto", threads=1).get_providers() == [CPU]
    assert caplog.messages == ["running on the CPU: a blank image does not run on the GPU: cuDNN is unavailable"]
    assert open_session(model, "cuda", threads=1).get_providers()[0] == CUDA  # its start is refused when it is warmed


@pytest.mark.parametrize("choice", ["auto", "cuda"])
@pytest.mark.parametrize(("precision", "tf32"), [("fp32", "0"), ("int8", "0"), ("fp16", "1"), ("unheard of", "0")])
def test_only_a_graph_in_fp16_may_use_tensor_cores_and_is_channels_last(
    choice: ProviderChoice,
    precision: str,
    tf32: str,
    gpu_sessions: GpuSessions,
) -> None:
    graph = build_graph()
    [metadata] = graph.metadata_props
    metadata.value = json.dumps({**json.loads(metadata.value), "precision": precision})
    asked = gpu_sessions(OnGpu)
    assert open_session(graph.SerializeToString(), choice, threads=1, gpu=3).get_providers()[0] == CUDA
    assert (asked[-1]["use_tf32"], asked[-1]["device_id"]) == (tf32, "1")
    assert ("prefer_nhwc" in asked[-1]) == (precision == "fp16")


def test_on_a_gpu_each_batch_size_has_a_session_of_its_own(gpu_sessions: GpuSessions) -> None:
    model = (Settings().models / "cifar10-rotations" / "model.onnx").read_bytes()
    asked = gpu_sessions(OnGpu)
    session = open_session(model, "cuda", threads=1)
    assert len(asked) == 1
    for size in (1, 4, 1, 4, 2):
        images = np.full((size, 32, 32, 3), 7 * size, np.uint8)
        [scores] = session.run(["anomaly_score"], {"images": images})
        assert np.allclose(scores, open_session(model, "cpu", 1).run(["anomaly_score"], {"images": images})[0])
    assert asked == 3 * asked[:1]


WORKING_MEMORY = """
import sys
from pathlib import Path

import numpy as np

from serving.graphs.providers import open_session
from tests.fuzz.memory import resident


def resident_after(sessions):
    for session in sessions * 2:  # the second run takes its memory in one piece
        session.run(None, {session.get_inputs()[0].name: np.zeros((8, 32, 32, 3), np.uint8)})
    return resident()


model = Path(sys.argv[1]).read_bytes()
sessions = [open_session(model, "cpu", threads=1) for _ in range(5)]
loaded = resident()
print(resident_after(sessions[:1]) - loaded, resident_after(sessions) - loaded)
"""


def test_sessions_on_the_cpu_share_their_working_memory() -> None:
    one, five = printed_by(WORKING_MEMORY, str(Settings().models / "cifar10-transformations" / "model.onnx"))
    assert one > 10e6  # else the comparison says nothing
    assert five < 1.5 * one
