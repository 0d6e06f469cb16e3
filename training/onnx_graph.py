"""From a PyTorch module to an ONNX model in memory: one file, weights inside, any batch size."""

from __future__ import annotations

import onnx
import torch
from torch import Tensor, nn

from serving.graphs.manifest import INPUT_NAME
from training.scorer import Scorer

EXAMPLES = 3  # the exporter takes a batch of one for a fixed size
NETWORK_INPUT = "views"
NETWORK_HEADS_SUFFIX = "_logits"


class ExportError(RuntimeError):
    """A graph that could not be made, written, or that disagrees with its module; the message says which."""


class _BareNetwork(nn.Module):
    """A network whose outputs are named '<head>_logits'."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, views: Tensor) -> dict[str, Tensor]:
        logits: dict[str, Tensor] = self.network(views)
        return {head + NETWORK_HEADS_SUFFIX: values for head, values in logits.items()}


def scorer_graph(scorer: Scorer, size: int) -> onnx.ModelProto:
    """Return the graph of ``scorer``: 'images' uint8 [batch, size, size, 3] in, the contract's outputs by name out."""
    return _export(scorer, INPUT_NAME, torch.zeros((EXAMPLES, size, size, 3), dtype=torch.uint8))


def network_graph(network: nn.Module, size: int) -> onnx.ModelProto:
    """Return the bare network: 'views' float32 [batch, 3, size, size] in [0, 1] in, '<head>_logits' [batch, K] out."""
    return _export(_BareNetwork(network).eval(), NETWORK_INPUT, torch.zeros((EXAMPLES, 3, size, size)))


def _export(module: nn.Module, input_name: str, example: Tensor) -> onnx.ModelProto:
    with torch.inference_mode():
        names = list(module(example))
    program = torch.onnx.export(
        module,
        (example,),
        dynamo=True,
        external_data=False,
        input_names=[input_name],
        output_names=names,
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        verbose=False,
    )
    if program is None:
        raise ExportError("the ONNX exporter returned no model")
    model = program.model_proto
    _forget_origins(model)
    return model


def _forget_origins(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes on each node: stack traces with the paths of this machine."""
    del model.graph.metadata_props[:]
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    for initializer in model.graph.initializer:
        del initializer.metadata_props[:]
        initializer.doc_string = ""
