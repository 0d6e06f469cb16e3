"""Offline half of Quarterturn: data, views, networks, objectives, recipes, trainer, evaluation and export."""

import serving as serving  # first of all: without it ONNX Runtime would report to its makers
