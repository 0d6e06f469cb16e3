"""The demo's page while models are replaced: a result is drawn on the calibration and grid of the model it is of."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Route, expect

from tests.end_to_end.browsers import chromium, installed
from tests.end_to_end.demo_driver import Demo, demo_page, file
from tests.end_to_end.ports import free_port
from tests.end_to_end.servers import running
from tests.graphs import build_graph, write_graph
from tests.pictures import encoded

pytestmark = [pytest.mark.slow, pytest.mark.skipif(installed() is None, reason="no Chromium on this machine")]

PICTURE = encoded(Image.linear_gradient("L").resize((48, 48)).convert("RGB"))
OLD, NEW = [-20.0, -15.0, -10.0], [-200.0, -150.0, -100.0]


class Replaceable:
    """A server of one model, ``views``, of 32 pixels and calibrated to OLD, and how it comes to another."""

    def __init__(self, models: Path, url: str, process: subprocess.Popen[str]) -> None:
        self.url = url
        self.models = models
        self._file = models / "views" / "model.onnx"
        self._process = process

    def listed(self) -> Any:
        return httpx.get(f"{self.url}/models").json()

    def replace(self) -> None:
        """Put a model of 64 pixels, calibrated to NEW, in its place."""
        model = build_graph("views", formula="transformation", size=64, calibration=NEW)
        written = self._file.with_suffix(".new")
        written.write_bytes(model.SerializeToString())
        written.rename(self._file)
        self.reload()

    def reload(self) -> None:
        """Let the server take what has changed in its folder, and wait until it has."""
        before = self.listed()
        os.kill(self._process.pid, signal.SIGHUP)
        deadline = time.monotonic() + 60
        while self.listed() == before:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@contextmanager
def replaceable(folder: Path) -> Iterator[Replaceable]:
    write_graph(folder / "models", "views", formula="transformation", calibration=OLD)
    port = free_port()
    command = [sys.executable, "-m", "serving.cli", "serve", "--port", str(port), "--models", str(folder / "models")]
    with ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("w"))
        options: dict[str, Any] = {"stdout": log, "stderr": subprocess.STDOUT}
        process = stack.enter_context(running(command, port, **options))
        yield Replaceable(folder / "models", f"http://localhost:{port}", process)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Replaceable]:
    with replaceable(tmp_path) as server:
        yield server


@pytest.fixture
def demo(browser: Browser, server: Replaceable) -> Iterator[Demo]:
    with demo_page(browser, server.url) as demo:
        yield demo


def curves(result: Locator) -> Locator:
    return result.get_by_role("img", name="Calibration curve.")


def assert_drawn(demo: Demo, result: Locator, calibration: list[float], size: int) -> None:
    least, greatest = (f"{score:#.4g}".replace("-", "−") for score in (calibration[0], calibration[-1]))
    expect(curves(result)).to_have_accessible_name(re.compile(f"normal images lie from {least} to {greatest},"))
    expect(result.locator("figcaption").first).to_have_text(f"as the model sees it, {size} × {size}")
    assert demo.drawn(result.locator(".view canvas")).shape == (36, size, size, 3)


def test_after_a_model_was_replaced_its_results_are_drawn_on_the_new_one(demo: Demo, server: Replaceable) -> None:
    asked: list[str] = []
    demo.page.on("request", lambda request: asked.append(request.url.removeprefix(server.url)))
    demo.pick(file("before.png", PICTURE))
    server.replace()
    demo.pick(file("after.png", PICTURE), at_least=2)
    demo.pick(file("again.png", PICTURE), at_least=3)
    assert_drawn(demo, demo.result("before.png"), OLD, 32)
    assert_drawn(demo, demo.result("after.png"), NEW, 64)
    assert_drawn(demo, demo.result("again.png"), NEW, 64)
    assert asked.count("/models") == 1
    assert demo.trouble == []


def test_the_form_offers_the_models_there_are_and_keeps_what_was_chosen(demo: Demo, server: Replaceable) -> None:
    write_graph(server.models, "other", formula="transformation", calibration=OLD)
    server.reload()
    demo.open()
    boxes = demo.page.get_by_role("checkbox")
    other, views = (demo.page.get_by_role("checkbox", name=name) for name in ("other", "views"))
    alpha = demo.page.get_by_label("Alpha")
    demo.page.locator("summary", has_text="Models and false-alarm rate").click()
    for box in (other, views):
        box.check()
    alpha.fill("0.25")
    alpha.press("Enter")
    demo.pick(file("both.png", PICTURE))
    expect(curves(demo.result("both.png"))).to_have_count(2)
    shutil.rmtree(server.models / "other")
    write_graph(server.models, "new", formula="transformation", calibration=NEW)
    server.reload()
    demo.pick(file("one.png", PICTURE), at_least=2)
    for name in ("both.png", "one.png"):
        expect(curves(demo.result(name))).to_have_count(1)
        expect(demo.result(name).locator(".error")).to_have_count(0)
        assert_drawn(demo, demo.result(name), OLD, 32)
    expect(boxes).to_have_count(2)
    expect(views).to_be_checked()
    expect(demo.page.get_by_role("checkbox", name="new")).not_to_be_checked()
    expect(alpha).to_have_value("0.25")
    expect(alpha).to_be_focused()
    demo.page.get_by_role("checkbox", name="new").check()
    demo.settle()
    expect(curves(demo.result("one.png"))).to_have_count(2)


def test_a_worker_that_still_lists_the_old_model_is_not_asked_again_and_again(demo: Demo, server: Replaceable) -> None:
    before = json.dumps(server.listed())
    server.replace()
    asked: list[str] = []

    def as_before(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(content_type="application/json", body=before)

    demo.page.route("**/models", as_before)
    demo.pick(*(file(f"{number}.png", PICTURE) for number in range(3)))
    for number in range(3):
        result = demo.result(f"{number}.png")
        expect(result.locator(".error")).to_have_text(
            "A model is just being replaced; add the image again. models_changed"
        )
        expect(result.locator("section")).to_have_count(0)
    assert len(asked) == 1
    demo.page.unroute("**/models")
    demo.pick(file("later.png", PICTURE), at_least=4)
    assert_drawn(demo, demo.result("later.png"), NEW, 64)


def test_models_that_cannot_be_listed_again_are_told_of_beside_the_image(demo: Demo, server: Replaceable) -> None:
    server.replace()
    demo.page.route("**/models", lambda route: route.abort())
    demo.pick(file("after.png", PICTURE))
    expect(demo.result("after.png").locator(".error")).to_contain_text("The server did not answer.")
