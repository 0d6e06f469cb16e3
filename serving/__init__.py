"""Online half of Quarterturn: the graph contract, image fitting, ONNX Runtime scoring, the BentoML service and the CLI.

Imports neither torch nor ``training``. Nothing is reported to anybody: from release 1.29 on ONNX Runtime tells its
makers of the models it loads, unless the environment says otherwise before its first import. Whoever wants that sets
``ORT_DISABLE_TELEMETRY`` to 0.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
