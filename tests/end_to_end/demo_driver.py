"""Driving the demo's page: a server with the shipped models, the page in a browser, and what it shows read back."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Browser, FilePayload, Locator, Page, expect

from tests.end_to_end.ports import free_port
from tests.end_to_end.servers import running

WAIT_MS = 20_000


@contextmanager
def shipped_server(log: Path) -> Iterator[str]:
    """Serve the shipped models in a process; yields its address."""
    port = free_port()
    command = [sys.executable, "-m", "serving.cli", "serve", "--port", str(port)]
    with ExitStack() as stack:
        output = stack.enter_context(log.open("w"))
        options: dict[str, Any] = {"stdout": output, "stderr": subprocess.STDOUT}
        stack.enter_context(running(command, port, **options))
        yield f"http://localhost:{port}"


def file(name: str, content: bytes, kind: str = "image/png") -> FilePayload:
    """Return a file to pick, whatever its name and its declared type."""
    return {"name": name, "mimeType": kind, "buffer": content}


class Demo:
    """The page in a window of its own. ``trouble`` collects what the browser complained of, and outside requests."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.trouble: list[str] = []
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        page.on("dialog", lambda dialog: self.trouble.append(f"a dialog: {dialog.message}"))
        page.on("request", lambda request: self._note_outside(request.url))

    def open(self, key: str | None = None) -> Demo:
        """Go to the page and wait until it has listed the models; with a key, a wrong one first, where it asks."""
        self.page.goto(f"{self.url}/demo")
        if key is not None:
            field = self.page.get_by_label("API key", exact=True)
            expect(field).to_be_focused()
            for given in ("a-wrong-key", key):
                field.fill(given)
                field.press("Enter")
                if given != key:
                    expect(self.page.get_by_role("alert")).to_have_text("The server refused this key.")
            expect(field).to_be_hidden()
        expect(self.page.locator("#settings select")).to_be_attached()
        return self

    def try_sample(self, name: str) -> Locator:
        """Press a sample's button; return its result once it is there."""
        self.page.locator(f'button[data-sample="{name}"]').click()
        return self.result(name)

    def pick(self, *files: FilePayload | Path, at_least: int | None = None) -> None:
        """Pick files as with the file dialog, and wait until all results are there."""
        chosen: Sequence[Any] = files
        self.page.locator("#files").set_input_files(list(chosen))
        self.settle(len(files) if at_least is None else at_least)

    def settle(self, at_least: int = 1) -> None:
        """Wait until no result is being scored."""
        results = self.page.locator("article")
        expect(results.nth(at_least - 1)).to_be_attached()
        expect(self.page.locator('article[aria-busy="true"]')).to_have_count(0, timeout=WAIT_MS)

    def result(self, name: str) -> Locator:
        """Return the result of a file, scored."""
        article = self.page.get_by_role("article", name=name, exact=True)
        expect(article).to_have_attribute("aria-busy", "false", timeout=WAIT_MS)
        return article

    def drawn(self, canvases: Locator) -> NDArray[np.uint8]:
        """Return the pixels of canvases of one size, uint8 [canvases, size, size, 3]."""
        read = """all => all.map(canvas => {
            const { width, height } = canvas;
            const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
            return [width, btoa(Array.from(data, byte => String.fromCharCode(byte)).join(""))];
        })"""
        images = [
            np.frombuffer(base64.b64decode(data), np.uint8).reshape(-1, width, 4)
            for width, data in canvases.evaluate_all(read)
        ]
        return np.stack(images)[..., :3]

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.trouble.append(text)

    def _note_outside(self, address: str) -> None:
        if not address.startswith(f"{self.url}/"):
            self.trouble.append(f"a request to {address}")


@contextmanager
def demo_page(browser: Browser, url: str, key: str | None = None, **options: Any) -> Iterator[Demo]:
    """Open the page in a fresh browser context, without motion; options as Playwright's: ``viewport``, ..."""
    context = browser.new_context(**{"reduced_motion": "reduce", **options})
    try:
        yield Demo(context.new_page(), url).open(key)
    finally:
        context.close()
