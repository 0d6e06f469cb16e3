"""The ONNX exporter's table of operators, built once in a process and not for each graph: a quarter of an export.

A test process exports dozens of graphs, a user's command one or two. Private parts of PyTorch: where they have changed,
exports take longer, and that is all.
"""

from __future__ import annotations

import contextlib
import functools


@functools.cache
def build_torchlib_once() -> None:
    """Keep the exporter's table for the exports that follow in this process; asked again, it does nothing."""
    with contextlib.suppress(ImportError, AttributeError):
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))
