"""Examples: one answer of each endpoint, as the shipped models give them, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

_ROTATIONS = "sha256:03484b38123314795f18663807e3fdb52e0f8758bee975201ff7a518ecac0c55"
_HORSE = "sha256:58ba6a63cae5c6e95b2581000e34d8d61dc4b2ccdb7dc420ca18cf36f9f45f2a"
_CIFAR10 = "sha256:b0cb86ce982f85d35957221d72f032dbba8a6b4756b3015694cc78bd400531b4"

CLASSIFIED: dict[str, Any] = {
    "model": {"name": "cifar10-rotations", "digest": _ROTATIONS},
    "results": [
        {
            "label": "horse",
            "index": 7,
            "probability": 0.99985,
            "top": [
                {"label": "horse", "index": 7, "probability": 0.99985},
                {"label": "dog", "index": 5, "probability": 0.00013},
            ],
        },
        {
            "error": {
                "code": "undecodable_image",
                "message": "this PNG file will not decode: image file is truncated",
                "image": 1,
                "filename": "cut-off.png",
            }
        },
    ],
}

SCORED: dict[str, Any] = {
    "alpha": 0.05,
    "results": [
        {
            "is_anomaly": True,
            "kl_rotation": {
                "model": "cifar10-rotations",
                "digest": _ROTATIONS,
                "score": -2.19843,
                "formula": "kl_rotation",
                "kl_uniform": 4.48587,
                "rotation_loss": 2.28744,
                "p_value": 0.19185,
                "calibration_n": 4909,
                "is_anomaly": False,
            },
            "transformation": [
                {
                    "model": "cifar10-horse-transformations",
                    "digest": _HORSE,
                    "method": "transformations",
                    "normal": "horse",
                    "score": -70.11627,
                    "p_value": 0.001996,
                    "calibration_n": 500,
                    "is_anomaly": True,
                }
            ],
        }
    ],
}

MODELS: dict[str, Any] = {
    "default": {"classifier": None, "one_class": ["cifar10-horse-transformations"]},
    "models": [
        {
            "digest": _HORSE,
            "name": "cifar10-horse-transformations",
            "kind": "one_class",
            "method": "transformations",
            "score": "transformation",
            "classes": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
            "normal": "horse",
            "fitting": {"size": 32, "shorter_side": 32},
            "view_grid": {
                "rotations": [0, 1, 2, 3],
                "vertical": [0, 8, -8],
                "horizontal": [0, 8, -8],
                "resizes": [1.0],
                "order": "rotate_translate",
                "axes": ["rotation", "vertical", "horizontal"],
                "heads": ["rotation", "vertical", "horizontal"],
            },
            "recipe": {"name": "cifar10-one-class-transformations", "scale": "cpu"},
            "network": "WRN 10-2",
            "precision": "fp32",
            "training_data": {
                "name": "cifar10",
                "split": "train",
                "digest": _CIFAR10,
                "available": 4984,
                "count": 4484,
                "in_class": "horse",
            },
            "metrics": {"false_alarm_rate": 0.04413, "false_alarm_alpha": 0.05},
            "calibration": {
                "n": 500,
                "data": "cifar10",
                "split": "train",
                "digest": _CIFAR10,
                "quantiles": [round(-110.0 + 0.4 * step, 1) for step in range(101)],
            },
        }
    ],
}
