"""Online half of Quarterturn: the graph contract, image fitting, ONNX Runtime scoring, the BentoML service and the CLI.

Imports neither torch nor ``training``.
"""
