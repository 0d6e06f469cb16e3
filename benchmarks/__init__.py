"""What `make bench` runs."""

import serving as serving  # first of all: without it ONNX Runtime would report to its makers
