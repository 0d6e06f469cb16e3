"""JSON answers: the same data as the standard library's, in as few bytes, whatever the texts and numbers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.requests.json_answer import JsonAnswer

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(st.dictionaries(st.text(), VALUES))
def test_the_standard_library_reads_what_was_written(content: dict[str, object]) -> None:
    assert json.loads(JsonAnswer(content).body) == content


def test_an_answer_is_utf_8_without_spaces_in_the_order_given() -> None:
    answer = JsonAnswer({"z": [1, 0.5, None], "a": "ü"})
    assert bytes(answer.body) == '{"z":[1,0.5,null],"a":"ü"}'.encode()
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == str(len(answer.body))


def test_what_json_cannot_hold_is_an_error_and_no_answer() -> None:
    with pytest.raises(TypeError):
        JsonAnswer({"a": object()})
