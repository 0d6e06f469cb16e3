"""Pages that follow from the code say what the code says; links lead somewhere."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from serving.graphs.graph import load_graph
from serving.images.image_file import read_image
from serving.requests.answers import score_parts

ROOT = Path(__file__).parents[1]
# Every page but the cards of models, which `quarterturn export` writes.
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "models/README.md")),
    *(
        page
        for folder in ("benchmarks", "docs", "examples", "serving", "tests", "training")
        for page in sorted((ROOT / folder).rglob("*.md"))
    ),
]
RECORDS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


def links(page: Path) -> list[Path]:
    """Return the files that a page links to."""
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    return [(page.parent / target).resolve() for target in targets]


@pytest.mark.parametrize("name", ["command-line.md", "settings.md"])
def test_generated_page_is_current(name: str) -> None:
    generate = runpy.run_path(str(ROOT / "docs" / "generate.py"), run_name="docs_generate")
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert written == generate["PAGES"][name](), "run: .venv/bin/python docs/generate.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert not [target for target in links(page) if not target.exists()]


def test_every_page_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            ahead += [target for target in links(page) if target.exists()]
    assert not [str(page.relative_to(ROOT)) for page in PAGES if page not in reached]


def test_the_decisions_are_numbered_without_a_gap_and_listed_by_their_titles() -> None:
    listed = []
    for number, page in enumerate(RECORDS, start=1):
        title = page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        assert page.name.startswith(f"{number:04}-")
        assert title.startswith(f"{number}. ")
        listed.append(f"{number}. [{title.removeprefix(f'{number}. ')}]({page.name})")
    index = (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in index if line[:1].isdigit()] == listed


@pytest.mark.parametrize("package", ["serving", "training"])
def test_the_readme_of_a_package_names_its_modules(package: str) -> None:
    """Each module and each folder in the folder itself, in the table's first column; the table names nothing else."""
    folder = ROOT / package
    table = (folder / "README.md").read_text(encoding="utf-8").split("| --- | --- |\n")[1].split("\n\n")[0]
    named = [name for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
    modules = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    folders = [f"{path.name}/" for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert sorted(named) == sorted(modules + folders)


@pytest.mark.parametrize("package", [path.parent.name for path in sorted(ROOT.glob("serving/*/__init__.py"))])
def test_the_readme_of_serving_names_the_modules_of_its_packages(package: str) -> None:
    text = (ROOT / "serving" / "README.md").read_text(encoding="utf-8")
    table = text.split(f"\n## {package}/\n")[1].split("| --- | --- |\n")[1].split("\n\n")[0]
    named = [name for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
    modules = [path.name for path in (ROOT / "serving" / package).glob("*.py") if path.name != "__init__.py"]
    assert sorted(named) == sorted(modules)


def test_the_contract_can_be_used_with_no_code_of_ours() -> None:
    """The page's example, run in a Python of its own, gives the score and p-value of ours."""
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "graph-contract.md").read_text("utf-8"), re.DOTALL)
    printed = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(scores.item(), p_values[0])"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    graph = load_graph(ROOT / "models" / "cifar10-rotations" / "model.onnx", "cpu")
    image = read_image((ROOT / "examples" / "horse.png").read_bytes(), graph.manifest.fitting)
    [part] = score_parts(graph, graph.run(image[None]), alpha=0.05)
    assert [float(value) for value in printed.split()] == pytest.approx([part["score"], part["p_value"]], abs=1e-4)
    assert "serving" not in code


def test_paper_to_code_names_files_that_exist() -> None:
    named = re.findall(r"`((?:training|serving)/[\w/.-]+)`", (ROOT / "docs" / "paper-to-code.md").read_text("utf-8"))
    assert len(named) > 10
    assert not [path for path in named if not (ROOT / path).exists()]


def test_make_help_says_what_each_target_is_for() -> None:
    targets = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[0].split()
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"help", *re.findall(r"^make ([\w-]+) +\S", told, re.MULTILINE)} == set(targets)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_name_targets_of_make_that_there_are(page: Path) -> None:
    rules = re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = re.findall(r"(?:^|`)make ([\w./-]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert not set(named) - set(rules)
