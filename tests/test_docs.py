"""Pages that follow from the code say what the code says; links lead somewhere."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("name", ["command-line.md", "settings.md"])
def test_generated_page_is_current(name: str) -> None:
    generate = runpy.run_path(str(ROOT / "docs" / "generate.py"), run_name="docs_generate")
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert written == generate["PAGES"][name](), "run: .venv/bin/python docs/generate.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    broken = [target for target in targets if not (page.parent / target).exists()]
    assert not broken


def test_paper_to_code_names_files_that_exist() -> None:
    named = re.findall(r"`((?:training|serving)/[\w/.-]+)`", (ROOT / "docs" / "paper-to-code.md").read_text("utf-8"))
    assert len(named) > 10
    assert not [path for path in named if not (ROOT / path).exists()]
