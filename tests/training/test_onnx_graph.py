"""The exporter: one file, any batch, names of the contract, and nothing of the machine it ran on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from tests.training.patterns import image_set
from training.onnx_graph import network_graph, scorer_graph
from training.scorer import ClassifierScorer
from training.views import ViewGrid

SIZE = 16


class TinyNetwork(nn.Module):
    """A convolution with batch norm and two heads: what the exporter meets in the real networks, but little of it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.label, self.rotation = nn.Linear(4, 3), nn.Linear(4, 4)

    def forward(self, views: Tensor) -> dict[str, Tensor]:
        features = torch.relu(self.norm(self.convolution(views))).mean(dim=(2, 3))
        return {"label": self.label(features), "rotation": self.rotation(features)}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    network = TinyNetwork()
    network(torch.rand(8, 3, SIZE, SIZE))  # statistics that are not 0 and 1
    return network.eval()


@pytest.fixture(scope="module")
def scorer(network: nn.Module) -> ClassifierScorer:
    return ClassifierScorer(network, ViewGrid(), "kl_rotation").eval()


@pytest.fixture(scope="module")
def bare_graph(network: nn.Module) -> onnx.ModelProto:
    return network_graph(network, SIZE)


@pytest.fixture(scope="module")
def whole_graph(scorer: ClassifierScorer) -> onnx.ModelProto:
    return scorer_graph(scorer, SIZE)


def shapes(values: object) -> dict[str, list[int | str]]:
    return {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in values  # type: ignore[attr-defined]
    }


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_bare_network_takes_views_and_gives_logits(
    bare_graph: onnx.ModelProto, network: nn.Module, batch: int
) -> None:
    session = onnxruntime.InferenceSession(bare_graph.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["label_logits", "rotation_logits"]
    views = torch.rand(batch, 3, SIZE, SIZE)
    with torch.inference_mode():
        expected = list(network(views).values())
    for given, value in zip(session.run(None, {"views": views.numpy()}), expected, strict=True):
        np.testing.assert_allclose(given, value.numpy(), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_scorer_takes_bytes_and_gives_scores(
    whole_graph: onnx.ModelProto, scorer: ClassifierScorer, batch: int
) -> None:
    session = onnxruntime.InferenceSession(whole_graph.SerializeToString(), providers=["CPUExecutionProvider"])
    images = image_set(per_class=2, size=SIZE).pixels.read(0, batch)
    with torch.inference_mode():
        expected = scorer(torch.from_numpy(images))
    names = [output.name for output in session.get_outputs()]
    assert names == list(expected)
    for name, given in zip(names, session.run(names, {"images": images}), strict=True):
        np.testing.assert_allclose(given, expected[name].numpy(), atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_only_the_batch_is_free(bare_graph: onnx.ModelProto, whole_graph: onnx.ModelProto) -> None:
    assert shapes(bare_graph.graph.input) == {"views": ["batch", 3, SIZE, SIZE]}
    assert shapes(whole_graph.graph.input) == {"images": ["batch", SIZE, SIZE, 3]}
    assert whole_graph.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert shapes(whole_graph.graph.output)["view_probabilities"] == ["batch", 4]
    assert {value.type.tensor_type.elem_type for value in whole_graph.graph.output} == {onnx.TensorProto.FLOAT}


@pytest.mark.slow
def test_weights_are_inside_and_origins_are_not(bare_graph: onnx.ModelProto, whole_graph: onnx.ModelProto) -> None:
    for model in (bare_graph, whole_graph):
        onnx.checker.check_model(model, full_check=True)
        assert all(weight.data_location == onnx.TensorProto.DEFAULT for weight in model.graph.initializer)
        assert not model.metadata_props
        assert not model.graph.metadata_props
        assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
        data = model.SerializeToString()
        for place in (str(Path(__file__).parents[2]), "site-packages", "TinyNetwork", ".py"):
            assert place.encode() not in data
