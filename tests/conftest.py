"""Session-wide environment: nothing that runs in a test writes to the user's BentoML home, or tells anybody of it."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile

import pytest
from hypothesis import settings

settings.register_profile("busy-machine", deadline=None)
settings.load_profile("busy-machine")

_HOME = pytest.StashKey[str]()

# BentoML 1.4 uses what its own dependencies have deprecated; nothing of ours can change that.
_BENTOML_WARNINGS = (
    "ignore:GitWildMatchPattern:DeprecationWarning",
    "ignore:The `__get_pydantic_core_schema__` method of the `BaseModel` class:DeprecationWarning",
    "ignore:Accessing the 'model_fields' attribute on the instance:DeprecationWarning",
)


def pytest_configure(config: pytest.Config) -> None:
    for warning in _BENTOML_WARNINGS:
        config.addinivalue_line("filterwarnings", warning)
    home = tempfile.mkdtemp(prefix="quarterturn-tests-")
    config.stash[_HOME] = home
    metrics = os.path.join(home, "metrics")
    os.mkdir(metrics)
    os.environ |= {
        "BENTOML_HOME": os.path.join(home, "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "OTEL_SDK_DISABLED": "true",
        "ORT_DISABLE_TELEMETRY": "1",  # for tests that import ONNX Runtime before any of ours
        "PROMETHEUS_MULTIPROC_DIR": metrics,
        # Two test processes on two cores: threads of one would spin in wait for a core that the other has.
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: the last ones are short, and no process waits long for the other."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_unconfigure(config: pytest.Config) -> None:
    _close_metrics()
    shutil.rmtree(config.stash[_HOME], ignore_errors=True)


def _close_metrics() -> None:
    """Close the files of Prometheus's multiprocess mode, which its client leaves to the garbage collector."""
    from prometheus_client.mmap_dict import MmapedDict

    for value in gc.get_objects():
        if issubclass(type(value), MmapedDict):  # isinstance would ask torch's deprecated objects, which then warn
            value.close()
