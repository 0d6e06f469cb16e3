"""The pictures of docs/demo.md: ``python -m tests.end_to_end.demo_screenshots --out docs/images``.

Needs Chromium. Letters are drawn with the fonts of the machine: Inter where it is installed.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from tests.end_to_end.browsers import chromium
from tests.end_to_end.demo_driver import demo_page, shipped_server

DESKTOP = {"width": 1160, "height": 900}
PHONE = {"width": 390, "height": 2400}
# File: the sample it shows, the whole page or what fits the window, and the window.
PICTURES: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "demo-light.png": ("seven.png", True, {"viewport": DESKTOP, "color_scheme": "light"}),
    "demo-dark.png": ("horse-upside-down.png", True, {"viewport": DESKTOP, "color_scheme": "dark"}),
    "demo-phone.png": ("truck.png", False, {"viewport": PHONE, "color_scheme": "light"}),
}


def main() -> None:
    """Write every picture of PICTURES into the folder given, with 256 colours each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, shipped_server(Path(folder) / "log") as url, chromium() as browser:
        for name, (sample, whole, options) in PICTURES.items():
            with demo_page(browser, url, **options) as demo:
                demo.try_sample(sample)
                demo.page.mouse.move(0, 0)
                demo.page.evaluate("() => window.scrollTo(0, 0)")
                taken = demo.page.screenshot(full_page=whole)
            with Image.open(io.BytesIO(taken)) as image:
                colours = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, 8, dither=Image.Dither.NONE)
            colours.save(out / name, optimize=True)
            print(f"{out / name}: {(out / name).stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
