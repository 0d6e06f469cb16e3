"""The demo's page in a real browser, against a server with the shipped models: it shows what the API says."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Locator, expect

from tests.end_to_end.browsers import chromium, installed
from tests.end_to_end.demo_driver import Demo, demo_page, file, shipped_server
from tests.pictures import encoded, picture

pytestmark = [pytest.mark.slow, pytest.mark.skipif(installed() is None, reason="no Chromium on this machine")]

SAMPLES = Path(__file__).parents[2] / "serving" / "demo_page" / "samples"
HORSE = (SAMPLES / "horse.png").read_bytes()
SEVEN = (SAMPLES / "seven.png").read_bytes()
STEPS = [-8, 0, 8]


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
    """The page, of which the browser must have nothing to complain in the end."""
    with demo_page(browser, url, permissions=["clipboard-read", "clipboard-write"]) as demo:
        yield demo
        assert demo.trouble == []


def asked(url: str, path: str, image: bytes, **fields: Any) -> Any:
    """Return the API's own result for one image."""
    answer = httpx.post(f"{url}{path}", files={"images": image}, data=fields, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"][0]


def described(rotation: int, vertical: int, horizontal: int, probabilities: list[float]) -> str:
    """Return the text that stands for a view."""
    done = [f"rotated {90 * rotation} degrees"] if rotation else []
    done += [f"{abs(vertical)} px {'down' if vertical > 0 else 'up'}"] if vertical else []
    done += [f"{abs(horizontal)} px {'right' if horizontal > 0 else 'left'}"] if horizontal else []
    heads = zip(("rotation", "vertical", "horizontal"), probabilities, strict=True)
    return f"{', '.join(done) or 'as it is'}: {', '.join(f'{head} {value:.2f}' for head, value in heads)}"


def moved(image: NDArray[np.uint8], rotation: int, vertical: int, horizontal: int, pad: int = 8) -> NDArray[np.uint8]:
    """Return a view as the design defines it: rot90, then the crop at (pad - v, pad - h) of the reflected image."""
    size = len(image)
    padded = np.pad(np.rot90(image, rotation), ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    return padded[pad - vertical :, pad - horizontal :][:size, :size]


def shown_order() -> list[tuple[int, int, int]]:
    """Return (rotation, vertical, horizontal) of the thumbnails as they stand: up at the top, left at the left."""
    return list(itertools.product(range(4), STEPS, STEPS))


def luminance(colour: str) -> float:
    """Return the relative luminance (WCAG 2) of a CSS rgb()."""
    channels = np.array([float(value) for value in re.findall(r"[\d.]+", colour)[:3]]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def frames(section: Locator) -> list[tuple[str, str]]:
    """Return the frame colour and the number under each thumbnail."""
    read = "all => all.map(view => [getComputedStyle(view).borderTopColor, view.querySelector('.chip').textContent])"
    return [(colour, number) for colour, number in section.locator(".view").evaluate_all(read)]


def test_a_sample_shows_its_classes_scores_and_verdict_as_the_api_gives_them(demo: Demo) -> None:
    result = demo.try_sample("seven.png")
    classes = asked(demo.url, "/classify", SEVEN)
    bars = result.locator(".classes li")
    expect(bars.locator(".bar-label")).to_have_text([entry["label"] for entry in classes["top"]])
    widths = bars.locator(".bar span").evaluate_all("all => all.map(bar => parseFloat(bar.style.width))")
    assert widths == pytest.approx([100 * entry["probability"] for entry in classes["top"]], abs=0.01)

    scores = asked(demo.url, "/anomaly_score", SEVEN)
    parts = [scores["kl_rotation"], *scores["transformation"]]
    assert [part["p_value"] <= 0.025 for part in parts] == [False, True]
    expect(result.locator(".badge")).to_have_text("▲Anomaly")
    expect(result.locator("header")).to_contain_text("1 of 2 models raises the alarm.")
    for part, verdict in zip(parts, ("No alarm", "Alarm"), strict=True):
        panel = result.get_by_role("region", name=f"Strange to {part['model']}?")
        expect(panel.locator(".verdict")).to_contain_text(f"{verdict}: p-value {part['p_value']:.2g}")
        expect(panel.locator(".verdict")).to_contain_text("0.025 (alpha 0.05 ÷ 2 models)")
        expect(panel).to_contain_text(f"{100 * part['p_value']:.2g} % of normal images look at least this strange")
        score = f"{part['score']:.4g}".replace("-", "−")
        curve = panel.get_by_role("img", name="Calibration curve.")
        expect(curve).to_contain_text(f"this image: {score}")
        expect(curve).to_have_accessible_name(
            re.compile(rf"This image: {score}, p-value {part['p_value']:.2g}\. Alarm")
        )
    expect(demo.page.get_by_role("status")).to_have_text(f"seven.png: {classes['label']}, anomaly.")


def test_of_the_samples_the_ordinary_ones_alone_raise_no_alarm(demo: Demo) -> None:
    for sample in sorted(path.name for path in SAMPLES.iterdir()):
        result = demo.try_sample(sample)
        ordinary = sample in ("horse.png", "truck.png")
        expect(result.locator(".badge")).to_have_text("✓No anomaly" if ordinary else "▲Anomaly")
        if ordinary:
            expect(result.locator(".classes li").first).to_contain_text(sample.removesuffix(".png"))
            expect(result.locator(".score .verdict.ordinary")).to_have_count(2)


def test_the_score_stands_where_it_lies_among_the_calibration_scores(demo: Demo) -> None:
    result = demo.try_sample("seven.png")
    [model] = [
        model for model in httpx.get(f"{demo.url}/models").json()["models"] if model["name"] == "cifar10-rotations"
    ]
    quantiles = model["calibration"]["quantiles"]
    p_value = asked(demo.url, "/anomaly_score", SEVEN)["kl_rotation"]["p_value"]
    curve = result.locator(".curve").first
    area = "all => all.reduce((sum, bar) => sum + bar.width.baseVal.value * bar.height.baseVal.value, 0)"
    tail, rest = (curve.locator(f".{kind}").evaluate_all(area) for kind in ("tail", "normal"))
    assert tail / (tail + rest) == pytest.approx(p_value, abs=0.02)
    line, critical = (
        curve.locator(kind).evaluate("line => line.x1.baseVal.value") for kind in (".mark line", ".critical")
    )
    least, greatest = curve.locator(".normal, .tail").evaluate_all(
        "all => [Math.min(...all.map(b => b.x.baseVal.value)),"
        " Math.max(...all.map(b => b.x.baseVal.value + b.width.baseVal.value))]"
    )
    score = asked(demo.url, "/anomaly_score", SEVEN)["kl_rotation"]["score"]

    def place(value: float) -> float:
        return float(least + (value - quantiles[0]) / (quantiles[-1] - quantiles[0]) * (greatest - least))

    assert line == pytest.approx(place(score), abs=0.1)
    assert critical == pytest.approx(place(np.interp(0.975, np.linspace(0, 1, 101), quantiles)), abs=0.1)


def test_thirty_six_thumbnails_are_the_views_with_what_the_network_recognised(demo: Demo) -> None:
    result = demo.try_sample("horse.png")
    section = result.get_by_role("region", name="What cifar10-transformations recognised")
    [part] = asked(demo.url, "/anomaly_score", HORSE, views="true")["transformation"]
    recognised = np.array(part["views"]["probabilities"])
    assert part["views"]["vertical"] == part["views"]["horizontal"] == [0, 8, -8]
    places = {step: [0, 8, -8].index(step) for step in STEPS}

    probabilities = [recognised[r, places[v], places[h]].tolist() for r, v, h in shown_order()]
    names = section.get_by_role("radio").and_(section.locator(".view input"))
    expect(names).to_have_count(36)
    texts = names.evaluate_all("all => all.map(view => view.ariaLabel)")
    assert texts == [described(*cell, given) for cell, given in zip(shown_order(), probabilities, strict=True)]

    with Image.open(SAMPLES / "horse.png") as image:
        horse = np.asarray(image.convert("RGB"))
    drawn = demo.drawn(section.locator(".view canvas"))
    np.testing.assert_array_equal(drawn, np.stack([moved(horse, *cell) for cell in shown_order()]))


def test_the_colour_grows_lighter_with_what_was_recognised_and_a_number_says_it_too(demo: Demo) -> None:
    section = demo.try_sample("seven.png").get_by_role("region", name="What cifar10-transformations recognised")
    [part] = asked(demo.url, "/anomaly_score", SEVEN, views="true")["transformation"]
    recognised = np.array(part["views"]["probabilities"])[:, [2, 0, 1]][:, :, [2, 0, 1]].reshape(36, 3)
    for choice, values in [("all", recognised.mean(axis=1)), *zip(part["views"]["heads"], recognised.T, strict=True)]:
        section.get_by_role("radio", name=re.compile(f"^{choice} ")).check()
        colours, numbers = zip(*frames(section), strict=True)
        assert [float(number) for number in numbers] == pytest.approx(values.tolist(), abs=0.0051)
        lightness = np.array([luminance(colour) for colour in colours])[np.argsort(values)]
        assert (np.diff(lightness) > -0.003).all()  # colours are whole numbers
        assert lightness[-1] > lightness[0]


def test_choosing_a_view_shows_it_large_with_each_heads_probability(demo: Demo) -> None:
    section = demo.try_sample("horse.png").get_by_role("region", name="What cifar10-transformations recognised")
    view = section.get_by_role("radio", name=re.compile("^rotated 90 degrees, 8 px down:"))
    view.check()
    shown = section.locator(".inspected")
    expect(shown.locator(".inspected-title")).to_have_text("Rotated 90 degrees, 8 px down")
    text = str(view.get_attribute("aria-label"))
    expect(shown.locator(".bar-share")).to_have_text(re.findall(r"\d\.\d\d", text))
    with Image.open(SAMPLES / "horse.png") as image:
        expected = moved(np.asarray(image.convert("RGB")), 1, 8, 0)
    np.testing.assert_array_equal(demo.drawn(shown.locator("canvas"))[0], expected)


def test_a_bad_file_is_reported_and_does_not_block_the_good_ones(demo: Demo) -> None:
    broken = HORSE[:900]
    demo.pick(file("good.png", HORSE), file("cut-off.png", broken), file("notes.txt", b"hello", "text/plain"))
    names = demo.page.get_by_role("article").get_by_role("heading", level=3)
    expect(names).to_have_text(["good.png", "cut-off.png", "notes.txt"])
    expect(demo.result("good.png").locator(".badge")).to_contain_text("No anomaly")
    for name, image, code in (("cut-off.png", broken, "undecodable_image"), ("notes.txt", b"hello", "not_an_image")):
        error = asked(demo.url, "/classify", image, on_error="report")["error"]
        assert error["code"] == code
        refused = demo.result(name)
        expect(refused.locator(".badge")).to_have_text("✕Not scored")
        expect(refused.locator(".error")).to_have_text(re.compile(f"^{re.escape(error['message'])}", re.IGNORECASE))
        expect(refused.locator("section")).to_have_count(0)
    expect(demo.page.get_by_role("status")).to_have_text("1 image scored: 0 anomalies; 2 could not be scored.")


def test_a_file_that_the_browser_cannot_show_is_scored_all_the_same(demo: Demo) -> None:
    tiff = encoded(picture(640, 480), "TIFF")
    demo.pick(file("scan.tiff", tiff, "image/tiff"))
    result = demo.result("scan.tiff")
    expect(result.locator("header")).to_contain_text("no preview")
    expect(result.locator(".classes li").first).to_contain_text(asked(demo.url, "/classify", tiff)["label"])
    expect(result.get_by_text("an arrow stands in for it")).to_be_visible()
    drawn = demo.drawn(result.locator(".view canvas"))
    assert len(drawn) == 36
    arrow = drawn[shown_order().index((0, 0, 0))]
    assert 0.05 < (arrow == 255).all(axis=-1).mean() < 0.5
    np.testing.assert_array_equal(drawn, np.stack([moved(arrow, *cell) for cell in shown_order()]))


def test_a_photo_is_shown_as_it_came_and_as_the_model_sees_it(demo: Demo) -> None:
    photo = picture(640, 480)
    turned = photo.transpose(Image.Transpose.ROTATE_90)  # stored on its side, and its EXIF says so
    exif = Image.Exif()
    exif[0x0112] = 6
    demo.pick(file("photo.jpg", encoded(turned, "JPEG", exif=exif, quality=95), "image/jpeg"))
    result = demo.result("photo.jpg")
    assert result.locator("header canvas").first.evaluate("canvas => canvas.width / canvas.height") == 640 / 480
    fitted = demo.drawn(result.locator("header figure canvas"))[0].astype(int)
    expected = photo.resize((43, 32), Image.Resampling.BICUBIC).crop((5, 0, 37, 32))
    assert np.abs(fitted - np.asarray(expected).astype(int)).mean() < 4


def test_an_image_is_pasted(demo: Demo) -> None:
    write = """async bytes => {
        const image = new Blob([new Uint8Array(bytes)], { type: "image/png" });
        await navigator.clipboard.write([new ClipboardItem({ "image/png": image })]);
    }"""
    demo.page.evaluate(write, list(HORSE))
    demo.page.keyboard.press("Control+v")
    expect(demo.result("pasted-1.png").locator(".classes li").first).to_contain_text("horse")
    demo.page.evaluate("() => navigator.clipboard.writeText('no image')")
    demo.page.keyboard.press("Control+v")
    expect(demo.page.get_by_role("status")).to_have_text("The clipboard holds no image.")


def test_an_image_is_dropped_anywhere(demo: Demo) -> None:
    carried = demo.page.evaluate_handle(
        """bytes => {
            const carried = new DataTransfer();
            carried.items.add(new File([new Uint8Array(bytes)], "dropped.png"));
            return carried;
        }""",
        list(HORSE),
    )
    body = demo.page.locator("body")
    body.dispatch_event("dragenter", {"dataTransfer": carried})
    expect(demo.page.locator("#drop")).to_have_class("drop over")
    body.dispatch_event("drop", {"dataTransfer": carried})
    expect(demo.page.locator("#drop")).to_have_class("drop")
    expect(demo.result("dropped.png").locator(".classes li").first).to_contain_text("horse")


def test_a_file_name_is_text_whatever_it_holds(demo: Demo) -> None:
    name = "<img src=x onerror=alert(1)>\"'&amp;.png"
    demo.pick(file(name, HORSE), file("<b>bold.txt", b"hello"))
    expect(demo.page.get_by_role("article").get_by_role("heading", level=3)).to_have_text([name, "<b>bold.txt"])
    expect(demo.result(name).get_by_role("button", name=f"Remove {name}", exact=True)).to_be_visible()
    expect(demo.page.locator("#results img, #results b")).to_have_count(0)


def test_other_models_and_another_alpha_score_everything_anew(demo: Demo) -> None:
    result = demo.try_sample("horse.png")
    demo.page.get_by_text("Models and false-alarm rate").click()
    demo.page.get_by_role("checkbox", name=re.compile("^cifar10-horse-transformations")).check()
    horses = result.get_by_role("region", name="Strange to cifar10-horse-transformations?")
    expect(horses).to_contain_text("0.017 (alpha 0.05 ÷ 3 models)")
    expect(result.locator(".view canvas")).to_have_count(72)
    demo.page.get_by_label("Classifier").select_option("none")
    expect(result.locator(".classes")).to_have_count(0)
    alpha = demo.page.get_by_label("Alpha")
    alpha.fill("0.00005")
    alpha.press("Tab")
    expect(demo.page.locator("#warnings")).to_contain_text("cifar10-horse-transformations can never raise the alarm")
    alpha.fill("7")
    alpha.press("Tab")
    expect(demo.page.get_by_role("alert")).to_have_text("Alpha is a number between 0 and 1, such as 0.05.")


def test_every_view_grid_of_the_contract_can_be_drawn(demo: Demo) -> None:
    image = np.random.default_rng(0).integers(0, 2**32, (6, 6), dtype=np.uint32)
    views = {
        "axes": ["rotation", "vertical", "horizontal", "resize"],
        **{"rotations": [0, 1, 2, 3], "vertical": [0, 2, -2], "horizontal": [0, 2, -2], "resizes": [1, 0.5]},
        "heads": ["rotation", "vertical", "horizontal", "resize"],
        "probabilities": np.linspace(0, 1, 288).reshape(4, 3, 3, 2, 4).tolist(),
    }
    made = demo.page.evaluate(
        """async ([data, views]) => {
            const { cells, blocks } = await import("/demo/grid.js");
            const { view } = await import("/demo/pixels.js");
            const all = cells(views);
            const image = { size: 6, data: Uint32Array.from(data) };
            const drawn = (order) => all.map((cell) => [...view(image, cell, order).data]);
            const [rotated, moved] = [drawn("rotate_translate"), drawn("translate_rotate")];
            return { all, rotated, moved, blocks: blocks(all).length };
        }""",
        [image.ravel().tolist(), views],
    )
    cells = list(itertools.product(range(4), [0, 2, -2], [0, 2, -2], [1, 0.5]))
    assert [tuple(cell[axis] for axis in views["axes"]) for cell in made["all"]] == cells
    heads = [list(cell["heads"].values()) for cell in made["all"]]
    np.testing.assert_allclose(heads, np.linspace(0, 1, 288).reshape(72, 4))
    assert made["blocks"] == 8
    flat = image[..., None]
    for order, drawn in (("rotated", made["rotated"]), ("moved", made["moved"])):
        for (rotation, vertical, horizontal, _), given in zip(cells, drawn, strict=True):
            if order == "rotated":
                expected = moved(flat, rotation, vertical, horizontal, pad=2)
            else:
                expected = np.rot90(moved(flat, 0, vertical, horizontal, pad=2), rotation)
            np.testing.assert_array_equal(np.reshape(given, (6, 6)), expected[..., 0])


def test_a_full_page_says_what_it_left_out(demo: Demo) -> None:
    demo.pick(*(file(f"{index}.txt", b"hello", "text/plain") for index in range(102)), at_least=100)
    expect(demo.page.get_by_role("article")).to_have_count(100)
    expect(demo.page.locator("#warnings")).to_have_text("The page shows 100 images at most: 2 images left out")
    demo.page.get_by_role("button", name="Clear all").click()
    expect(demo.page.locator("#warnings")).to_be_hidden()


def test_results_are_removed_one_by_one_and_all(demo: Demo) -> None:
    demo.pick(*(file(f"{index}.png", HORSE) for index in range(3)))
    demo.page.get_by_role("button", name="Remove 1.png").click()
    expect(demo.page.get_by_role("article").get_by_role("heading", level=3)).to_have_text(["0.png", "2.png"])
    expect(demo.page.get_by_role("heading", name="2.png")).to_be_focused()
    demo.page.get_by_role("button", name="Clear all").click()
    expect(demo.page.get_by_role("article")).to_have_count(0)
    expect(demo.page.get_by_text("Nothing yet.")).to_be_visible()
