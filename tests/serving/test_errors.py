from __future__ import annotations

import pickle

import httpx
import pytest

from serving.client import RefusedError
from serving.errors import ApiError, TwoClassifiersError, UnknownModelError, unknown_name


def test_body_has_only_what_is_known() -> None:
    assert ApiError(400, "bad_field", "alpha is no number").body() == {
        "error": {"code": "bad_field", "message": "alpha is no number"}
    }
    assert ApiError(422, "undecodable_image", "truncated", image=0, filename="a.png").body() == {
        "error": {"code": "undecodable_image", "message": "truncated", "image": 0, "filename": "a.png"}
    }


def test_headers_are_kept() -> None:
    assert ApiError(503, "busy", "full", headers={"Retry-After": "1"}).headers == {"Retry-After": "1"}


def test_unknown_model_is_404_with_the_nearest() -> None:
    error = UnknownModelError("cifar10-rotation", ["cifar10-rotations", "horses"])
    assert (error.status, error.code) == (404, "unknown_model")
    assert error.message == "unknown model 'cifar10-rotation'; did you mean 'cifar10-rotations'?"


def test_unknown_names_without_a_near_one_list_all() -> None:
    assert unknown_name("model", "zebra", ["b", "a"]) == "unknown model 'zebra'; known: a, b"
    assert unknown_name("model", "zebra", []) == "unknown model 'zebra'; known: none"
    assert len(unknown_name("model", "x" * 10_000, ["a"])) < 200


@pytest.mark.parametrize(
    "error",
    [
        ApiError(422, "undecodable_image", "truncated", image=0, filename="a.png", headers={"X": "1"}),
        UnknownModelError("cifar10-rotation", ["cifar10-rotations"]),
        TwoClassifiersError(["one", "two"]),
        RefusedError(503, "busy", "full", headers=httpx.Headers({"Retry-After": "1"})),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_reaches_another_process_whole(error: ApiError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
