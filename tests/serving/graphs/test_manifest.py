from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from serving.graphs.manifest import METADATA_KEY, Manifest, ManifestError, dump_manifest, parse_manifest
from tests.graphs import ROTATION_GRID, TRANSFORMATION_GRID, build_graph


def document(**options: Any) -> dict[str, Any]:
    properties = {entry.key: entry.value for entry in build_graph(**options).metadata_props}
    parsed: dict[str, Any] = json.loads(properties[METADATA_KEY])
    return parsed


def problem(changed: dict[str, Any]) -> str:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(json.dumps(changed))
    return str(caught.value)


@pytest.mark.parametrize("formula", ["kl_rotation", "kl", "msp", "transformation"])
def test_what_is_written_is_read_back(formula: str) -> None:
    manifest = parse_manifest(json.dumps(document(formula=formula)))
    assert manifest.score == formula
    assert parse_manifest(dump_manifest(manifest)) == manifest


def test_scores_survive_as_float32() -> None:
    scores = np.sort(np.random.default_rng(0).normal(size=50).astype(np.float32))
    read = parse_manifest(json.dumps(document(calibration=scores.tolist()))).calibration.scores
    assert (np.array(read, np.float32) == scores).all()


def test_no_manifest_at_all() -> None:
    with pytest.raises(ManifestError, match="not a graph exported by Quarterturn"):
        parse_manifest(None)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"schema_version": "one"}'])
def test_damaged(text: str) -> None:
    with pytest.raises(ManifestError, match="damaged"):
        parse_manifest(text)


@pytest.mark.parametrize("version", [0, 2, 99])
def test_an_unknown_schema_version_is_told_before_anything_else(version: int) -> None:
    assert problem({"schema_version": version, "of": "the future"}) == (
        f"manifest has schema version {version}; this release reads version 1"
    )


@pytest.mark.parametrize("field", [field for field in Manifest.model_fields if field != "schema_version"])
def test_a_missing_field_is_named(field: str) -> None:
    changed = document()
    del changed[field]
    assert f"{field}: Field required" in problem(changed)


def test_an_unknown_field_is_named() -> None:
    assert "colour: Extra inputs are not permitted" in problem(document() | {"colour": "red"})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"calibration": {"n": 2, "scores": [2.0, 1.0]}}, "not ascending"),
        ({"calibration": {"n": 3, "scores": [1.0, 2.0]}}, "2 scores but says n = 3"),
        ({"calibration": {"n": 0, "scores": []}}, "calibration.n"),
        ({"fitting": {"size": 33, "shorter_side": 32}}, "smaller than the crop"),
        ({"kind": "one_class", "normal": "cats"}, "score is transformation or method"),
        ({"kind": "one_class"}, "what is normal"),
        ({"score": "transformation"}, "kl_rotation, kl or msp"),
        ({"score": "method"}, "kl_rotation, kl or msp"),
        ({"classes": ["cat"]}, "at least two classes"),
        ({"view_grid": None}, "needs a view grid"),
        ({"name": "../evil"}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": ""}, "name"),
        ({"view_grid": {"axes": ["shear"]}}, "view_grid.axes.0"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], words: str) -> None:
    changed = document()
    for field, value in changes.items():
        changed[field] = changed[field] | value if isinstance(value, dict) else value
    assert words in problem(changed)


def test_infinite_scores_are_refused() -> None:
    text = json.dumps(document()).replace('"scores": [', '"scores": [-Infinity, ')
    with pytest.raises(ManifestError, match="calibration"):
        parse_manifest(text)


def test_shapes_of_the_outputs() -> None:
    classifier = parse_manifest(json.dumps(document()))
    one_class = parse_manifest(json.dumps(document(formula="transformation")))
    assert [classifier.output_shape(name) for name in ("probabilities", "view_probabilities", "anomaly_score")] == [
        (3,),
        (4,),
        (),
    ]
    assert one_class.output_shape("view_probabilities") == (4, 3, 3, 3)
    assert (classifier.views, one_class.views, parse_manifest(json.dumps(document(formula="kl"))).views) == (4, 36, 1)
    assert (ROTATION_GRID.axis_lengths(), TRANSFORMATION_GRID.axis_lengths()) == ((4,), (4, 3, 3))


def test_a_grid_may_also_resize() -> None:
    changed = document(formula="transformation")
    axes = ["rotation", "vertical", "horizontal", "resize"]
    changed["view_grid"] |= {"resizes": [1.0, 0.5], "axes": axes, "heads": axes}
    manifest = parse_manifest(json.dumps(changed))
    assert manifest.output_shape("view_probabilities") == (4, 3, 3, 2, 4)
    assert manifest.views == 72


def test_other_one_class_methods_have_a_score_alone() -> None:
    manifest = parse_manifest(json.dumps(document(formula="method")))
    assert (manifest.kind, manifest.view_grid, manifest.required_outputs()) == ("one_class", None, ("anomaly_score",))
