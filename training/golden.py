"""Golden files of a shipped graph: its bare network, a few real images and the outputs they gave.

``python -m training.golden RUN MODEL.onnx --data DATA --out tests/golden`` writes ``OUT/NAME/``: network.onnx,
image-0.png ..., expected.json. A test recomputes the scores from them in plain NumPy.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from serving.files import write_together
from serving.graphs.graph import load_graph
from training.export import ExportError
from training.onnx_graph import network_graph
from training.run_folder import RunFolder, load_network
from training.training_run import load_split

NETWORK_FILE = "network.onnx"
EXPECTED_FILE = "expected.json"
IMAGES = 5


def write_golden(run: RunFolder, model: Path, data_root: Path, out: Path) -> Path:
    """Write the golden files of ``model``, which was exported from ``run``, into a folder of its name; return it.

    The images are spread over the test split, so that most are of different classes. Raises ExportError if the graph is
    of another recipe than the run.
    """
    graph = load_graph(model)
    network, recipe = load_network(run)
    if graph.manifest.recipe.settings != recipe.settings():
        raise ExportError(f"{model} was not exported from {run.path}: their recipes differ")
    test = load_split(recipe, data_root, "test", run.training_record())
    chosen = test.take(np.linspace(0, len(test) - 1, IMAGES).astype(np.int64))
    pixels = np.ascontiguousarray(chosen.pixels.read(0, IMAGES))
    outputs = graph.run(pixels)
    folder = out / graph.name
    names = [f"image-{index}.png" for index in range(IMAGES)]
    expected = {
        "digest": graph.digest,
        "images": names,
        "outputs": {output: values.tolist() for output, values in outputs.items()},
    }
    contents = {folder / name: _png(image) for name, image in zip(names, pixels, strict=True)}
    contents[folder / NETWORK_FILE] = network_graph(network, recipe.data.size).SerializeToString(deterministic=True)
    contents[folder / EXPECTED_FILE] = (json.dumps(expected, indent=1) + "\n").encode()
    folder.mkdir(parents=True, exist_ok=True)
    write_together(contents)
    return folder


def _png(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def main(
    run: Annotated[Path, typer.Argument(help="the run that the graph was exported from")],
    model: Annotated[Path, typer.Argument(help="the exported graph")],
    data: Annotated[Path, typer.Option(help="data root")],
    out: Annotated[Path, typer.Option(help="folder of golden files")] = Path("tests/golden"),
) -> None:
    """Write the golden files of an exported graph."""
    typer.echo(str(write_golden(RunFolder(run), model, data, out)))


if __name__ == "__main__":
    typer.run(main)
