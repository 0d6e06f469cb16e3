"""The demo's page for everybody: by keyboard, for screen readers, in light and dark, on a phone, without motion."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, FilePayload, expect

from tests.end_to_end.browsers import chromium, installed
from tests.end_to_end.demo_driver import Demo, demo_page, shipped_server

pytestmark = [pytest.mark.slow, pytest.mark.skipif(installed() is None, reason="no Chromium on this machine")]

HORSE = (Path(__file__).parents[2] / "examples" / "horse.png").read_bytes()
NOT_AN_IMAGE: FilePayload = {"name": "no-image-" * 12, "mimeType": "text/plain", "buffer": b"hello"}
NAMED_ROLES = {
    *("article", "button", "checkbox", "combobox", "group", "heading", "image", "link", "main", "radio"),
    *("radiogroup", "region", "spinbutton", "textbox"),
}

# Every text that is seen, with its contrast to what is behind it (WCAG 2), its size in pixels and its weight.
CONTRASTS = """() => {
    const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const luminance = (colour) => {
        const linear = channels(colour).slice(0, 3).map((value) => {
            const share = value / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    };
    const behind = (element) => {
        for (let above = element; above; above = above.parentElement) {
            const colour = getComputedStyle(above).backgroundColor;
            if ((channels(colour)[3] ?? 1) === 1) return colour;
        }
        throw new Error("nothing behind the text is opaque");
    };
    const contrast = (one, other) => {
        const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
        return (light + 0.05) / (dark + 0.05);
    };
    const found = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        if (!texts.currentNode.data.trim() || !element.checkVisibility({ visibilityProperty: true })) continue;
        const style = getComputedStyle(element);
        const colour = element instanceof SVGElement ? style.fill : style.color;
        const text = texts.currentNode.data.trim();
        found.push([text, contrast(colour, behind(element)), parseFloat(style.fontSize), Number(style.fontWeight)]);
    }
    for (const control of document.querySelectorAll("button, select, input[type=number], .drop")) {
        const edge = contrast(getComputedStyle(control).borderTopColor, behind(control.parentElement));
        found.push([`edge of ${control.id || control.textContent}`, edge, 99, 400]);
    }
    return found;
}"""

# What has the focus, and whether that shows: an outline around it, its label, or what stands for it.
FOCUSED = """() => {
    const element = document.activeElement;
    const around = [element, element.closest("label"), element.nextElementSibling].filter((one) => one !== null);
    const shows = around.some((one) => {
        const { outlineStyle, outlineWidth } = getComputedStyle(one);
        return outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
    });
    const name = element.id || element.dataset.sample || element.ariaLabel || element.textContent;
    return [element.type === "radio" ? "radio" : name.trim(), shows];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with shipped_server(tmp_path_factory.mktemp("server") / "log") as url:
        yield url


@pytest.fixture
def demo(browser: Browser, url: str) -> Iterator[Demo]:
    with demo_page(browser, url) as demo:
        yield demo


def fill(demo: Demo) -> None:
    """Bring the page to where it shows all it can: results, an error, the settings, a warning, all three verdicts."""
    demo.page.get_by_text("Models and false-alarm rate").click()
    alpha = demo.page.get_by_label("Alpha")
    alpha.fill("0.001")
    demo.pick({"name": "x" * 120 + ".png", "mimeType": "image/png", "buffer": HORSE}, NOT_AN_IMAGE)
    demo.try_sample("horse-upside-down.png")
    alpha.fill("0.2")
    alpha.press("Tab")
    demo.settle()
    demo.try_sample("seven.png")
    alpha.fill("7")
    alpha.press("Tab")
    expect(demo.page.get_by_role("alert")).to_be_visible()


def test_the_keyboard_alone_does_everything(demo: Demo) -> None:
    page = demo.page
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == ["Skip to the results", True]
    assert page.get_by_role("link", name="Skip").bounding_box()["x"] >= 0  # type: ignore[index]
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == ["files", True]
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == ["horse.png", True]
    page.keyboard.press("Enter")
    result = demo.result("horse.png")

    stops = []
    for _ in range(9):
        page.keyboard.press("Tab")
        stops.append(page.evaluate(FOCUSED))
    samples = [[f"{name}.png", True] for name in ("horse-upside-down", "truck", "seven", "stripes")]
    assert stops[:4] == samples
    rest = ["settings-title", "clear", "Remove horse.png", "radio", "radio"]
    assert stops[4:] == [[name, True] for name in rest]

    section = result.locator(".views")
    before = section.locator(".inspected-title").text_content()
    page.keyboard.press("ArrowRight")
    expect(section.locator(".inspected-title")).not_to_have_text(str(before))
    page.keyboard.press("Shift+Tab")
    expect(section.get_by_role("radio", name=re.compile("^rotation "))).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(section.get_by_role("radio", name=re.compile("^vertical "))).to_be_checked()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    expect(page.get_by_role("article")).to_have_count(0)
    expect(page.locator("#files")).to_be_focused()


def test_the_skip_link_leads_to_the_results(demo: Demo) -> None:
    demo.try_sample("horse.png")
    demo.page.get_by_role("link", name="Skip to the results").focus()
    demo.page.keyboard.press("Enter")
    expect(demo.page.locator("#results")).to_be_focused()
    demo.page.keyboard.press("Tab")
    expect(demo.page.get_by_role("button", name="Clear all")).to_be_focused()


def test_whatever_can_be_used_or_seen_has_a_name(demo: Demo) -> None:
    fill(demo)
    session = demo.page.context.new_cdp_session(demo.page)
    nodes: list[dict[str, Any]] = session.send("Accessibility.getFullAXTree")["nodes"]
    seen = [
        (node["role"]["value"], node.get("name", {}).get("value", "").strip()) for node in nodes if not node["ignored"]
    ]
    assert {"article", "image", "radio", "radiogroup", "region", "spinbutton"} <= {role for role, _ in seen}
    assert [role for role, name in seen if role in NAMED_ROLES - {"main"} and not name] == []
    views = [name for role, name in seen if role == "radio" and ": rotation " in name]
    assert len(views) == 3 * 36
    assert len(set(views)) > 3 * 36 - 5  # each says something of its own
    curves = [name for role, name in seen if role == "image" and name.startswith("Calibration curve.")]
    assert len(curves) == 6
    assert [role for role, _ in seen].count("main") == 1
    check_ids_and_headings(demo)


def check_ids_and_headings(demo: Demo) -> None:
    """Ids are unique, what refers to one finds it, and headings leave out no level."""
    ids = demo.page.locator("[id]").evaluate_all("all => all.map(element => element.id)")
    assert len(ids) == len(set(ids))
    levels = demo.page.locator("h1, h2, h3, h4, h5").evaluate_all(
        "all => all.map(heading => Number(heading.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    for attribute in ("aria-labelledby", "aria-describedby", "for"):
        named = demo.page.locator(f"[{attribute}]").evaluate_all(
            f"all => all.map(one => one.getAttribute('{attribute}'))"
        )
        assert set(named) <= set(ids)


def test_results_are_announced(demo: Demo) -> None:
    status = demo.page.get_by_role("status")
    expect(status).to_have_text("")
    demo.page.evaluate(
        """() => {
            window.said = [];
            const status = document.getElementById("status");
            new MutationObserver(() => window.said.push(status.textContent)).observe(status, { childList: true });
        }"""
    )
    demo.try_sample("truck.png")
    expect(status).to_have_text("truck.png: truck, no anomaly.")
    assert demo.page.evaluate("() => window.said") == ["Scoring 1 image …", "truck.png: truck, no anomaly."]


def test_every_text_stands_out_from_what_is_behind_it_in_light_and_in_dark(demo: Demo) -> None:
    fill(demo)
    demo.page.evaluate("() => document.getElementById('key-form').hidden = false")
    schemes: list[Literal["light", "dark"]] = ["light", "dark"]
    for scheme in schemes:
        demo.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page_colour = demo.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert (int(page_colour[4:].split(",")[0]) < 128) == (scheme == "dark")
        found = demo.page.evaluate(CONTRASTS)
        texts = {text for text, *_ in found}
        assert {"Quarterturn", "No anomaly", "Anomaly", "Not scored", "not_an_image", "rotation"} <= texts
        faint = [
            (text, round(contrast, 2))
            for text, contrast, size, weight in found
            if contrast < (3 if size >= 24 or (size >= 18.66 and weight >= 700) else 4.5)
        ]
        assert faint == []


def test_a_phone_shows_everything_without_scrolling_sideways(demo: Demo) -> None:
    fill(demo)
    for width in (360, 320):
        demo.page.set_viewport_size({"width": width, "height": 740})
        assert demo.page.evaluate("() => document.documentElement.scrollWidth") == width
        outside = demo.page.locator("main *").evaluate_all(
            """(all, width) => all.filter((one) => {
                const { left, right } = one.getBoundingClientRect();
                return one.checkVisibility() && (left < -0.5 || right > width + 0.5);
            }).map((one) => one.outerHTML.slice(0, 80))""",
            width,
        )
        assert outside == []
        small = demo.page.locator("button:visible, select:visible, summary, .view, .heads label").evaluate_all(
            """all => all.map((one) => [one.textContent, one.getBoundingClientRect()])
                .filter(([, { width, height }]) => Math.min(width, height) < 24).map(([text]) => text)"""
        )
        assert small == []


def test_results_below_a_phones_screen_are_brought_into_view(browser: Browser, url: str) -> None:
    window = {"width": 360, "height": 640}
    with demo_page(browser, url, viewport=window) as demo:
        demo.try_sample("horse.png")
        expect(demo.page.get_by_role("heading", name="Results")).to_be_in_viewport()
        expect(demo.page.locator('button[data-sample="horse.png"]')).to_be_focused()


def test_nothing_moves_for_who_wants_it_still(demo: Demo) -> None:
    demo.try_sample("horse.png")
    read = "all => all.map(one => Math.max(...getComputedStyle(one).transitionDuration.split(',').map(parseFloat)))"
    assert max(demo.page.locator("main *").evaluate_all(read)) == 0
    demo.page.emulate_media(reduced_motion="no-preference")
    assert max(demo.page.locator("main *").evaluate_all(read)) > 0
