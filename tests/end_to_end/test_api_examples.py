"""docs/api.md: every example, run against a real server with the shipped models, writes what the page shows."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.end_to_end.api_examples import LANGUAGES, NODE, ROOT, SETUP, Example, finish, read_examples, start
from tests.end_to_end.ports import free_port
from tests.end_to_end.servers import running
from tests.likeness import assert_like
from tests.serving.held_service import held_service
from tests.serving.local_service import local_service

FULL = "When the server is full"
GUARDED = ("With an API key", "From a page of another origin")
KEY = "correct-horse-battery"
NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
LEFT_OUT = "..."
EXAMPLES = read_examples()

pytestmark = pytest.mark.slow
no_node = pytest.mark.skipif(NODE is None, reason="no node on this machine")
by_language = pytest.mark.parametrize("language", ["sh", "python", pytest.param("js", marks=no_node)])


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server process with the shipped models."""
    port = free_port()
    command = [sys.executable, "-m", "serving.cli", "serve", "--port", str(port)]
    with ExitStack() as stack:
        log = stack.enter_context((tmp_path_factory.mktemp("server") / "log").open("w"))
        options: dict[str, Any] = {"stdout": log, "stderr": subprocess.STDOUT}
        stack.enter_context(running(command, port, **options))
        yield f"http://localhost:{port}"


def under(headings: set[str], language: str) -> list[Example]:
    """Return the examples of a language under the headings, after what sets it up."""
    return [one for one in EXAMPLES if one.language == language and one.heading in headings | {SETUP}]


def assert_as_shown(examples: list[Example], outputs: list[str]) -> None:
    for example, written in zip(examples, outputs, strict=True):
        where = f"{example.heading}, {example.language}"
        if example.output == "json":
            shown = json.loads(example.shown)
            assert_like(without_left_out(json.loads(written), shown), shown, where)
        else:
            assert NUMBER.sub("#", written) == NUMBER.sub("#", example.shown), where
            shown_numbers = [float(number) for number in NUMBER.findall(example.shown)]
            assert_like([float(number) for number in NUMBER.findall(written)], shown_numbers, where)


def without_left_out(given: Any, shown: Any) -> Any:
    """Return an answer without what the page leaves out: the rest of a list or an object that ends in "..."."""
    if isinstance(given, dict) and isinstance(shown, dict):
        cut = {name: without_left_out(value, shown.get(name)) for name, value in given.items()}
        if LEFT_OUT not in shown:
            return cut
        assert cut.keys() - shown.keys(), "nothing is left out"
        return {name: value for name, value in cut.items() if name in shown} | {LEFT_OUT: LEFT_OUT}
    if isinstance(given, list) and isinstance(shown, list):
        if LEFT_OUT not in shown:
            return [without_left_out(*pair) for pair in zip(given, shown, strict=True)]
        assert len(given) >= len(shown), "nothing is left out"
        return [*map(without_left_out, given, shown[:-1]), LEFT_OUT]
    return given


def test_the_page_has_every_example_in_every_language() -> None:
    for heading in {one.heading for one in EXAMPLES} - {SETUP, GUARDED[1]}:
        assert {one.language for one in EXAMPLES if one.heading == heading} == set(LANGUAGES), heading
    assert {FULL, *GUARDED} <= {one.heading for one in EXAMPLES}
    assert all(one.shown for one in EXAMPLES if one.heading != SETUP)


@by_language
def test_examples_write_what_the_page_shows(url: str, language: str) -> None:
    examples = under({one.heading for one in EXAMPLES} - {FULL, *GUARDED}, language)
    assert_as_shown(examples, finish(start(examples, url)))


@by_language
def test_a_guarded_server_answers_who_has_the_key_and_tells_other_origins(
    monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    monkeypatch.setenv("QUARTERTURN_API_KEY", KEY)
    with local_service(ROOT / "models", api_key=KEY, cors_origins="https://pages.example") as url:
        examples = under(set(GUARDED), language)
        assert_as_shown(examples, finish(start(examples, url)))


@by_language
def test_a_full_server_is_asked_until_it_has_room(language: str) -> None:
    """The server gets room only after it has refused."""
    refused = threading.Event()

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if " POST /classify 503 " in record.getMessage():
                refused.set()

    logger, watch = logging.getLogger("serving.layers.request_log"), Watch()
    examples = under({FULL}, language)
    with held_service(ROOT / "models", access_log=True) as (url, hold):
        logger.addHandler(watch)
        try:
            process = start(examples, url)
            was_refused = refused.wait(30)
            hold.let_go()
            assert_as_shown(examples, finish(process))
        finally:
            logger.removeHandler(watch)
    assert was_refused
