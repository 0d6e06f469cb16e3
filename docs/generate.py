"""Write the pages that follow from the code: docs/command-line.md and docs/settings.md.

    python docs/generate.py

A test compares both with what this would write, so that they cannot go stale.
"""

from __future__ import annotations

from pathlib import Path

from typer.main import get_command
from typer.testing import CliRunner

from serving.cli import add_offline_commands, app
from serving.settings import settings_table

DOCS = Path(__file__).parent


def command_line_page() -> str:
    """Return the help of `quarterturn` and of each subcommand, as Markdown."""
    add_offline_commands(app)
    names = sorted(get_command(app).commands)  # type: ignore[attr-defined]  # typer's app is a click group
    runner = CliRunner()
    sections = ["# Command line\n", "Written by `docs/generate.py` from the program's own help.\n"]
    for arguments in [[], *([name] for name in names)]:
        shown = runner.invoke(app, [*arguments, "--help"], terminal_width=100, prog_name="quarterturn")
        title = " ".join(["quarterturn", *arguments])
        sections.append(f"## {title}\n\n```text\n{shown.output.strip()}\n```\n")
    return "\n".join(sections)


def settings_page() -> str:
    """Return the table of a server's settings, as Markdown."""
    return (
        "# Settings of a server\n\n"
        "Written by `docs/generate.py` from `serving/settings.py`. Read by `quarterturn serve` and, as far as they\n"
        "apply, by `score`, `calibrate` and `models`; an unknown `QUARTERTURN_*` variable stops each of them.\n\n"
        f"{settings_table()}"
    )


PAGES = {"command-line.md": command_line_page, "settings.md": settings_page}


if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
        print(DOCS / name)
