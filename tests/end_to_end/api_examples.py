"""The examples of docs/api.md: read from the page with what it shows of their output, and run as they stand there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "api.md"
SERVER = "http://localhost:3000"
SETUP = "Setting up"
LANGUAGES = ("sh", "python", "js")
OUTPUTS = ("json", "text")
NODE = shutil.which("node")
BETWEEN = "\x1e"


@dataclass(frozen=True)
class Example:
    """A block of code under a heading, and what the page shows below it: ``json``, ``text``, or None and nothing."""

    heading: str
    language: str
    code: str
    output: str | None
    shown: str


def read_examples() -> list[Example]:
    """Return the examples in the order of the page."""
    examples = []
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        heading, _, text = section.partition("\n")
        blocks = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        for (language, code), (output, shown) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
            assert language in LANGUAGES + OUTPUTS, f"a block of {language!r} is run by nobody"
            if language in LANGUAGES:
                follows = output in OUTPUTS
                examples.append(Example(heading, language, code, *((output, shown) if follows else (None, ""))))
    return examples


def start(examples: Sequence[Example], url: str) -> subprocess.Popen[str]:
    """Start examples of one language against a server; those of Python and JavaScript as one program.

    It writes what each writes, with BETWEEN after each.
    """
    (language,) = {example.language for example in examples}
    ends = {"sh": f"printf '{BETWEEN}'", "python": f"print({BETWEEN!r}, end='', flush=True)"}
    end = ends.get(language, f"process.stdout.write({BETWEEN!r});")
    program = "".join(f"{example.code}\n{end}\n" for example in examples).replace(SERVER, url)
    commands = {
        "sh": ["bash", "-e", "-c", program],
        "python": [sys.executable, "-W", "error", "-c", program],
        "js": [str(NODE), "--input-type=module", "--eval", program],
    }
    return subprocess.Popen(commands[language], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[str]) -> list[str]:
    """Return what each example wrote, once all have."""
    try:
        written, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    return written.split(BETWEEN)[:-1]
