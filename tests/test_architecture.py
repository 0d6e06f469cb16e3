"""The layout's rules: serving stands alone, modules stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SERVING = sorted((ROOT / "serving").rglob("*.py"))
CODE = [path for folder in ("serving", "training", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.py")]
# What only the extra 'train' installs, and the package that needs it.
OFFLINE = {
    "training",
    "torch",
    "torchvision",
    "lightning_fabric",
    "onnxscript",
    "sklearn",
    "scipy",
    "matplotlib",
}
# On which other packages each package of serving may rest, by its own imports or through modules at the top.
BELOW = {
    "images": set(),
    "graphs": {"images"},
    "openapi": {"images", "graphs"},
    "requests": {"images", "graphs"},
    "processes": {"images", "graphs"},
    "layers": {"images", "graphs", "requests"},
    "score": {"images", "graphs", "requests"},
    "recalibrate": {"images", "graphs", "requests", "score"},
}
# What serving imports only where a command needs it: it is large, or an extra.
LAZY = {"onnx", "pyarrow"}


def module_name(path: Path) -> str:
    """Return the name by which a file is imported, a package's for its ``__init__``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path) -> Iterator[str]:
    """Yield the full names of every import in a file, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported(path: Path) -> set[str]:
    """Return the top-level names of every import in a file."""
    return {name.split(".")[0] for name in imported_modules(path)}


@pytest.mark.parametrize("path", SERVING, ids=module_name)
def test_serving_imports_nothing_offline(path: Path) -> None:
    assert not OFFLINE & imported(path)


@pytest.mark.parametrize("package", sorted(path.parent.name for path in ROOT.glob("serving/*/__init__.py")))
def test_packages_of_serving_rest_on_those_below_only(package: str) -> None:
    modules = {module_name(path): path for path in SERVING}
    reached = {name for name in modules if name.startswith(f"serving.{package}.")}
    ahead = set(reached)
    while ahead:
        ahead = {name for module in ahead for name in imported_modules(modules[module])} & modules.keys() - reached
        reached |= ahead
    assert {name.split(".")[1] for name in reached if name != "serving"} & BELOW.keys() <= BELOW[package] | {package}


def test_importing_all_of_serving_loads_no_torch_and_nothing_large() -> None:
    modules = [module_name(path) for path in SERVING]
    assert {"serving", "serving.service", "serving.score", "serving.score.table"} <= set(modules)
    code = (
        "import importlib, sys\n"
        f"for name in {modules}: importlib.import_module(name)\n"
        f"found = set({sorted(OFFLINE | LAZY)}) & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(found)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_modules_are_small() -> None:
    long = {module_name(path): count for path in CODE if (count := len(path.read_text("utf-8").splitlines())) > 350}
    assert not long


def test_no_module_is_called_utils() -> None:
    assert not [path for path in (*CODE, *(ROOT / "tests").rglob("*.py")) if path.stem == "utils"]
