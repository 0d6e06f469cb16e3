"""Static quantisation: a graph whose convolutions compute in 8-bit integers, between scales found on real images.

ONNX Runtime's QDQ format: QuantizeLinear and DequantizeLinear around each convolution, which a runtime fuses where it
has integer kernels and else computes in float32. Weights int8 by output channel, activations uint8 by tensor.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from serving.graphs.manifest import INPUT_NAME
from training.data.image_set import ImageSet
from training.onnx_graph import ExportError
from training.progress import track


def quantised_graph(model: onnx.ModelProto, images: ImageSet, batch: int) -> onnx.ModelProto:
    """Return ``model``, a float32 scorer graph without a manifest, with its convolutions but the first in 8 bits.

    ``images`` (uint8, as the graph takes them; all their views are seen) give the range of each activation, ``batch``
    of them in one run. The first convolution, the heads and all that follows them stay float32. Weights use 7 of their
    8 bits: on processors without VNNI a full 8-bit product saturates, and the scores would depend on the machine.
    Raises ExportError where only the first convolution is there.
    """
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    if len(convolutions) < 2:
        raise ExportError("the network has no convolution after its first that could be quantised")
    prepared = onnx.ModelProto()
    prepared.CopyFrom(model)
    add_pre_process_metadata(prepared)  # the exporter has folded the batch norms that can be, else a warning
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "quantised.onnx"
        source.write_bytes(prepared.SerializeToString())
        quantize_static(
            source,
            target,
            _Batches(images, batch),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_quantize=convolutions[1:],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        quantised = onnx.load(target)
    del quantised.metadata_props[:]
    return quantised


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """The images as the graph's input, a batch a call, behind a progress bar; None after the last."""

    def __init__(self, images: ImageSet, batch: int) -> None:
        batches = -(-len(images) // batch)
        self._batches: Iterator[Any] = iter(
            track(images.batches(batch), f"finding ranges on {len(images)} images", batches)
        )

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT_NAME: batch}
