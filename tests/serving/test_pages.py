"""The files of the pages: how they are served, what they may not hold, and that they are packed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from serving.pages import API_FOLDER, DEMO_FOLDER
from tests.graphs import write_graph
from tests.serving.local_service import local_service

ROOT = Path(__file__).parents[2]
API_FILES = sorted(path.name for path in API_FOLDER.iterdir())
FILES = sorted(path.relative_to(DEMO_FOLDER).as_posix() for path in DEMO_FOLDER.rglob("*") if path.is_file())
TEXTS = [name for name in FILES if not name.endswith(".png")]
TYPES = {"css": "text/css", "html": "text/html", "js": "text/javascript", "png": "image/png", "svg": "image/svg+xml"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server that asks for a key, without the key: the page itself is open."""
    models = tmp_path_factory.mktemp("models")
    write_graph(models)
    with local_service(models, api_key="not-for-the-page") as url, httpx.Client(base_url=url) as client:
        yield client


def pixels(path: Path) -> np.ndarray:  # type: ignore[type-arg]
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


class _Page(HTMLParser):
    """Collects the addresses a page refers to, its inline scripts and styles, and its samples."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.inline: list[str] = []
        self.samples: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.addresses += [value for name in ("href", "src", "action") if (value := given.get(name))]
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)
        if sample := given.get("data-sample"):
            self.samples.append(sample)
        if identity := given.get("id"):
            self.ids.append(identity)


@pytest.fixture(scope="module")
def page() -> _Page:
    parser = _Page()
    parser.feed((DEMO_FOLDER / "index.html").read_text("utf-8"))
    return parser


def rest_of_policy(answer: httpx.Response, file: Path) -> dict[str, str]:
    """Assert that an answer is a page's file, with its type; return what its policy allows beside nothing."""
    assert answer.status_code == 200
    assert answer.content == file.read_bytes()
    assert answer.headers["content-type"].partition(";")[0] == TYPES[file.suffix[1:]]
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = dict(directive.split(" ", 1) for directive in answer.headers["content-security-policy"].split("; "))
    assert policy.pop("default-src") == "'none'"
    return {name: allowed for name, allowed in policy.items() if allowed not in ("'self'", "'none'")}


@pytest.mark.parametrize("name", ["", *FILES])
def test_every_file_of_the_demo_is_served_and_may_load_nothing_from_elsewhere(client: httpx.Client, name: str) -> None:
    answer = client.get(f"/demo/{name}" if name else "/demo")
    policy = rest_of_policy(answer, DEMO_FOLDER / (name or "index.html"))
    assert policy == {"require-trusted-types-for": "'script'"}
    assert "; trusted-types 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("name", ["", *API_FILES])
def test_every_file_of_the_api_page_is_served_and_may_load_nothing_from_elsewhere(
    client: httpx.Client, name: str
) -> None:
    policy = rest_of_policy(client.get(f"/api_page/{name}" if name else "/"), API_FOLDER / (name or "index.html"))
    assert policy == {"style-src": "'self' 'unsafe-inline'", "img-src": "'self' data:"}


def test_what_the_api_page_refers_to_is_there_without_a_key(client: httpx.Client) -> None:
    page = _Page()
    page.feed((API_FOLDER / "index.html").read_text("utf-8"))
    assert page.inline == []
    assert {f"api_page/{name}" for name in API_FILES} - {"api_page/index.html"} <= set(page.addresses)
    for address in page.addresses:
        assert client.get(f"/{address}").status_code == 200
    for name in API_FILES:
        assert "//" not in re.sub(r"^ *//.*|\s// .*", "", (API_FOLDER / name).read_text("utf-8"), flags=re.M)


def test_a_browser_that_has_a_file_is_told_so_and_asks_again_each_time(client: httpx.Client) -> None:
    first = client.get("/demo/app.js")
    assert first.headers["cache-control"] == "no-cache"
    for known in (first.headers["etag"], f'"other", W/{first.headers["etag"]}'):
        again = client.get("/demo/app.js", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    assert client.get("/demo/app.js", headers={"If-None-Match": '"other"'}).status_code == 200
    assert client.get("/demo/words.js").headers["etag"] != first.headers["etag"]


@pytest.mark.parametrize(
    "path",
    ["/demo/no.js", "/demo/%2e%2e/pages.py", "/demo/..%2fpages.py", "/demo//etc/passwd", "/demo/samples", "/api_page/"],
)
def test_what_is_no_file_of_the_page_is_not_found(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


def test_a_slash_too_many_leads_to_the_demo(client: httpx.Client) -> None:
    answer = client.get("/demo/", follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/demo")


def test_pages_are_only_read(client: httpx.Client) -> None:
    for path in ("/", "/demo"):
        head = client.head(path)
        assert (head.status_code, head.content) == (200, b"")
    for path in ("/", "/api_page/start.js", "/demo", "/demo/app.js"):
        assert client.post(path).status_code == 405


@pytest.mark.parametrize("name", TEXTS)
def test_nothing_comes_from_elsewhere(name: str) -> None:
    text = (DEMO_FOLDER / name).read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]+|@import|url\(", text)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".js")])
def test_no_script_makes_markup_or_code_of_a_text(name: str) -> None:
    text = (DEMO_FOLDER / name).read_text("utf-8")
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|\bFunction\(|srcdoc", text)


def test_the_page_refers_to_files_that_are_there_and_holds_no_inline_code(page: _Page) -> None:
    assert page.inline == []
    referred = {address.removeprefix("demo/") for address in page.addresses if not address.startswith("#")}
    imported = set()
    for name in FILES:
        if name.endswith(".js"):
            imported |= set(re.findall(r'^import .* from "\./(.+)";$', (DEMO_FOLDER / name).read_text("utf-8"), re.M))
    assert referred | imported | {"index.html"} == set(FILES)


def test_ids_that_scripts_and_labels_use_are_on_the_page_once(page: _Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    scripts = "".join((DEMO_FOLDER / name).read_text("utf-8") for name in FILES if name.endswith(".js"))
    used = set(re.findall(r'byId\("([^"]+)"\)', scripts))
    assert used
    assert used <= set(page.ids)
    fragments = {address[1:] for address in page.addresses if address.startswith("#")}
    assert fragments <= set(page.ids)


def test_the_samples_are_what_their_names_say(page: _Page) -> None:
    samples = DEMO_FOLDER / "samples"
    assert sorted(page.samples) == sorted(path.name for path in samples.iterdir())
    for name in ("horse.png", "seven.png"):
        assert (samples / name).read_bytes() == (ROOT / "examples" / name).read_bytes()
    np.testing.assert_array_equal(pixels(samples / "horse-upside-down.png"), pixels(samples / "horse.png")[::-1, ::-1])
    golden = ROOT / "tests" / "golden" / "cifar10-rotations" / "image-4.png"
    np.testing.assert_array_equal(pixels(samples / "truck.png"), pixels(golden))
    stripes = np.indices((32, 32)).sum(axis=0) // 4 % 2 * 255
    np.testing.assert_array_equal(pixels(samples / "stripes.png"), np.stack([stripes] * 3, axis=-1))


@pytest.mark.slow
def test_the_wheel_holds_the_pages(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for folder in ("serving", "training"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project / name)
    command = [sys.executable, "-c", "from setuptools import build_meta; print(build_meta.build_wheel('.'))"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    [wheel] = project.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        held = {name: packed.read(name) for name in packed.namelist() if "_page/" in name}
    assert held == {
        f"serving/{folder.name}/{name}": (folder / name).read_bytes()
        for folder, names in ((DEMO_FOLDER, FILES), (API_FOLDER, API_FILES))
        for name in names
    }
