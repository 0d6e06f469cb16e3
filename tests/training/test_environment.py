"""What a run records of where it ran."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

import training
from training.environment import describe_device, is_first_process, library_versions, source_revision

SOURCE = Path(training.__file__).parents[1]

GIT = ("git", "-c", "user.name=Nobody", "-c", "user.email=nobody@example.org")


def revision_of(root: Path) -> str:
    """Return what the copy of the module under ``root`` says of itself."""
    spec = spec_from_file_location("copied_environment", root / "training" / "environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.source_revision())


def test_versions_are_those_imported() -> None:
    versions = library_versions()
    assert versions["torch"] == torch.__version__.partition("+")[0] or versions["torch"] == torch.__version__
    assert versions["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")


def test_a_checkout_has_a_revision_and_changes_show(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    for name in ("__init__.py", "environment.py"):
        shutil.copy(SOURCE / "training" / name, tmp_path / "training")
    assert revision_of(tmp_path) == "unknown"
    for arguments in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "Begin")):
        subprocess.run([*GIT, *arguments], cwd=tmp_path, check=True)
    revision = revision_of(tmp_path)
    assert len(revision) == 40
    with (tmp_path / "training/__init__.py").open("a") as file:
        file.write("# more\n")
    assert revision_of(tmp_path) == revision + "+changes"


def test_a_copy_inside_another_project_has_no_revision(tmp_path: Path) -> None:
    subprocess.run([*GIT, "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run([*GIT, "commit", "-q", "--allow-empty", "-m", "Another project"], cwd=tmp_path, check=True)
    (tmp_path / "lib" / "training").mkdir(parents=True)
    for name in ("__init__.py", "environment.py"):
        shutil.copy(SOURCE / "training" / name, tmp_path / "lib" / "training")
    assert revision_of(tmp_path / "lib") == "unknown"


def test_without_git_the_revision_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert source_revision() == "unknown"


def test_a_processor_in_words() -> None:
    assert describe_device(torch.device("cpu")).startswith("CPU (")
    assert f"{torch.get_num_threads()} thread" in describe_device(torch.device("cpu"))


def test_the_first_of_torchruns_processes_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_first_process()
    monkeypatch.setenv("RANK", "1")
    assert not is_first_process()
