"""Online half of Quarterturn: the graph contract, image fitting, ONNX Runtime scoring, the BentoML service and the CLI.

Imports neither torch nor ``training``. One thing is done at its import, which has to come before ONNX Runtime's: from
release 1.29 on that tells its makers of the models it loads, unless the environment says otherwise. Whoever wants that
sets ``ORT_DISABLE_TELEMETRY`` to 0.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
