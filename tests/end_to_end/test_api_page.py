"""The page at ``/``: Swagger UI on the server's document, in a browser that notes what is asked of other hosts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Request, expect

from tests.end_to_end.browsers import chromium, installed
from tests.end_to_end.demo_driver import WAIT_MS, shipped_server

pytestmark = [pytest.mark.slow, pytest.mark.skipif(installed() is None, reason="no Chromium on this machine")]

KEY = "a-key-for-the-page"
HORSE = Path(__file__).parents[2] / "examples" / "horse.png"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page of a server that asks for a key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUARTERTURN_API_KEY", KEY)
        log = tmp_path_factory.mktemp("server") / "log"
        with shipped_server(log) as url, chromium() as browser:
            page = browser.new_context().new_page()
            page.set_default_timeout(WAIT_MS)
            trouble: list[str] = []

            def note(request: Request) -> None:
                if not request.url.startswith(f"{url}/"):
                    trouble.append(request.url)

            page.on("request", note)
            page.on("pageerror", lambda error: trouble.append(str(error)))
            page.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
            page.goto(url)
            yield page
            assert trouble == []


def test_the_page_shows_every_address(page: Page) -> None:
    paths = page.locator(".opblock-summary-path")
    expect(paths).to_have_text(
        ["/classify", "/anomaly_score", "/models", "/livez", "/readyz", "/healthz", "/metrics"], timeout=WAIT_MS
    )


def test_images_are_sent_with_a_key(page: Page) -> None:
    page.get_by_role("button", name="Authorize").first.click()
    page.locator("#api_key_value").fill(KEY)
    page.get_by_role("button", name="Apply credentials").first.click()
    page.get_by_role("button", name="Close").first.click()
    assert "is_anomaly" in _tried(page, "/anomaly_score")
    assert "label" in _tried(page, "/classify")


def _tried(page: Page, path: str) -> dict[str, Any]:
    """Send an image and no other field to ``path`` with the page's own form; return its result."""
    operation = page.locator(".opblock", has_text=path).first
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Add string item").first.click()
    operation.locator("input[type=file]").set_input_files(HORSE)
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table")
    expect(answer.locator(".response-col_status").nth(1)).to_contain_text("200", timeout=WAIT_MS)
    [result] = json.loads(answer.locator(".response-col_description .highlight-code code").first.inner_text())[
        "results"
    ]
    return dict(result)


def test_there_is_a_way_to_the_demo(page: Page) -> None:
    address = page.get_by_role("link", name="the demo").evaluate("link => link.href")
    assert page.request.get(address).ok
