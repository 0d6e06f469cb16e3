"""The demo's page where the server says no: a key is asked for, a request is too large, the server is full or gone."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Route, expect

from tests.end_to_end.browsers import chromium, installed
from tests.end_to_end.demo_driver import Demo, demo_page, file
from tests.graphs import write_graph
from tests.pictures import encoded
from tests.serving.local_service import local_service

pytestmark = [pytest.mark.slow, pytest.mark.skipif(installed() is None, reason="no Chromium on this machine")]

KEY = "a-key-for-the-demo"
BLACK = file("black.png", encoded(Image.new("RGB", (32, 32))))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of tiny models that asks for a key and takes small requests only."""
    models = tmp_path_factory.mktemp("models")
    write_graph(models, "colours")
    write_graph(models, "views", formula="transformation", size=64, shorter_side=72)
    with local_service(models, api_key=KEY, max_request_bytes=20_000) as url:
        yield url


@pytest.fixture
def demo(browser: Browser, url: str) -> Iterator[Demo]:
    """The page with its key: two refusals are behind it, without a key and with a wrong one."""
    with demo_page(browser, url, key=KEY) as demo:
        assert ["401" in text for text in demo.trouble] == [True, True]
        demo.trouble.clear()
        yield demo


def test_a_key_is_kept_in_memory_alone(demo: Demo) -> None:
    demo.pick(BLACK)
    expect(demo.result("black.png").locator(".badge")).to_contain_text("No anomaly")
    assert demo.trouble == []
    assert demo.page.evaluate("() => [localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


def test_images_too_many_for_one_request_go_one_by_one(demo: Demo) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 50, 50, 3), dtype=np.uint8)
    images = [encoded(Image.fromarray(pixels)) for pixels in noise]
    assert max(map(len, images)) < 10_000
    assert sum(map(len, images)) > 20_000
    demo.pick(*(file(f"{index}.png", image) for index, image in enumerate(images)), file("huge.png", b"x" * 30_000))
    for index in range(4):
        expect(demo.result(f"{index}.png").locator(".badge")).to_contain_text("nomaly")
    expect(demo.result("huge.png").locator(".badge")).to_have_text("✕Not scored")
    expect(demo.result("huge.png").locator(".error code")).to_have_text("request_too_large")
    thumbnails = demo.drawn(demo.result("0.png").locator(".view canvas"))
    assert thumbnails.shape == (36, 64, 64, 3)


@pytest.mark.parametrize("retry_after", ["0", "Wed, 21 Oct 2037 07:28:00 GMT"])
def test_a_full_server_is_asked_again(demo: Demo, retry_after: str) -> None:
    asked: list[str] = []
    began = time.monotonic()

    def busy_once(route: Route) -> None:
        asked.append(route.request.url)
        if asked.count(route.request.url) > 1:
            route.continue_()
            return
        body = json.dumps({"error": {"code": "busy", "message": "the server is full; try again"}})
        route.fulfill(status=503, headers={"Retry-After": retry_after}, content_type="application/json", body=body)

    demo.page.route(re.compile("/(classify|anomaly_score)$"), busy_once)
    demo.pick(BLACK)
    expect(demo.result("black.png").locator(".badge")).to_contain_text("No anomaly")
    assert len(asked) == 4
    assert retry_after == "0" or time.monotonic() - began > 1


def test_a_file_without_a_name_is_scored_among_others(demo: Demo) -> None:
    demo.page.evaluate(
        """bytes => {
            const moved = new DataTransfer();
            for (const name of ["one.png", "", "two.png"]) moved.items.add(new File([new Uint8Array(bytes)], name));
            document.querySelector(".drop").dispatchEvent(
                new DragEvent("drop", { dataTransfer: moved, bubbles: true, cancelable: true }));
        }""",
        list(BLACK["buffer"]),
    )
    for name in ("one.png", "unnamed", "two.png"):
        expect(demo.result(name).locator(".badge")).to_contain_text("No anomaly")


def test_an_answer_without_a_result_for_each_image_is_told_of_beside_them(demo: Demo) -> None:
    demo.page.route(re.compile("/anomaly_score$"), lambda route: route.fulfill(json={"results": []}))
    demo.pick(BLACK)
    expect(demo.result("black.png").locator(".error")).to_contain_text("does not have a result for each image")


def test_a_server_that_is_gone_is_told_of_beside_the_image(demo: Demo) -> None:
    demo.page.route(re.compile("/anomaly_score$"), lambda route: route.abort())
    demo.pick(BLACK)
    expect(demo.result("black.png").locator(".error")).to_contain_text("The server did not answer.")
    demo.page.unroute_all()
    demo.pick(file("again.png", BLACK["buffer"]), at_least=2)
    expect(demo.result("again.png").locator(".badge")).to_contain_text("No anomaly")


def test_models_that_cannot_be_listed_are_asked_for_again(browser: Browser, url: str) -> None:
    context = browser.new_context(extra_http_headers={"X-API-Key": KEY})
    try:
        page = context.new_page()
        page.route("**/models", lambda route: route.abort())
        page.goto(f"{url}/demo")
        expect(page.get_by_role("alert")).to_contain_text("The models could not be listed: the server did not answer.")
        page.locator('button[data-sample="horse.png"]').click()
        expect(
            page.get_by_role("article", name="horse.png")
        ).to_be_visible()  # a request under way does not outlast unroute
        page.unroute("**/models")
        page.get_by_role("button", name="Try again").click()
        expect(page.get_by_role("article", name="horse.png").locator(".badge")).to_contain_text("nomaly")
    finally:
        context.close()
