"""The table of refusals says what the code raises; the OpenAPI document and the docs say what the table does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import get_args

from serving import errors
from serving.images.image_file import ImageError, ImageErrorCode
from serving.openapi import document
from serving.openapi.refusals import REFUSALS

ROOT = Path(__file__).parents[3]
TABLE = {(refusal.status, refusal.code) for refusal in REFUSALS}
_CODE = re.compile(r"[a-z]+(_[a-z]+)*")
# Where a code is passed on that was written elsewhere: another error's, and that of the framework's status.
_PASSED_ON = {("image_of_upload.py", "cause.code"), ("image_of_upload.py", "error.code"), ("error_shape.py", "code")}


def test_every_code_that_is_raised_is_in_the_table_with_its_status_and_none_else() -> None:
    raised: set[tuple[object, object]] = set(_image_errors())
    passed_on = set()
    for path in sorted((ROOT / "serving").rglob("*.py")):
        for call in _calls(ast.parse(path.read_text(encoding="utf-8"))):
            status, code = call.args[:2]
            if isinstance(code, ast.Constant) and isinstance(status, ast.Constant):
                raised.add((status.value, code.value))
            else:
                passed_on.add((path.name, ast.unparse(code)))
    assert passed_on == _PASSED_ON
    assert raised <= TABLE
    assert {code for _, code in raised} | set(_codes_of_the_framework()) == {code for _, code in TABLE}


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls that make an ApiError: of the class, and of its constructor in the classes made from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ApiError":
            yield node
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "ApiError" for base in node.bases):
            yield from (
                call
                for call in ast.walk(node)
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__"
            )


def _image_errors() -> Iterator[tuple[int, str]]:
    for code in get_args(ImageErrorCode):
        yield ImageError(code, "").status, code


def _codes_of_the_framework() -> Iterator[str]:
    """Yield the codes of error_shape's pairs of a code and a message."""
    source = (ROOT / "serving" / "layers" / "error_shape.py").read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Tuple) and len(node.elts) == 2:
            code, message = (part.value if isinstance(part, ast.Constant) else None for part in node.elts)
            if isinstance(code, str) and isinstance(message, str) and _CODE.fullmatch(code):
                yield code


def test_the_scan_sees_the_classes_of_errors() -> None:
    source = (ROOT / "serving" / "errors.py").read_text(encoding="utf-8")
    assert {ast.literal_eval(call.args[1]) for call in _calls(ast.parse(source))} == {
        errors.UnknownModelError("x", ()).code,
        errors.NoClassifierError().code,
        errors.WrongKindError("x", "one_class", "classifier").code,
        errors.TwoClassifiersError("xy").code,
    }


def test_the_document_holds_every_refusal_with_an_example_and_none_else() -> None:
    responses = document.components()["responses"]
    shown = {
        (int(status), code)
        for status, response in responses.items()
        for code in response["content"]["application/json"]["examples"]
    }
    assert shown == TABLE
    for response in responses.values():
        for code, example in response["content"]["application/json"]["examples"].items():
            assert example["value"]["error"]["code"] == code
            assert code in response["description"]
    for path in ("/classify", "/anomaly_score"):
        assert document.paths("quarterturn")[path]["post"]["responses"].keys() == {"200", *responses}


def test_the_docs_hold_every_refusal_and_none_else() -> None:
    page = (ROOT / "docs" / "http-api.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d{3}) \| `([a-z_]+)` \| (.+) \|$", page, re.MULTILINE)
    assert {(int(status), code) for status, code, _ in rows} == TABLE
    assert len(rows) == len(TABLE)
    assert all(HTTPStatus(int(status)) >= 400 for status, _, _ in rows)
