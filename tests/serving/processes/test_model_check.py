from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from serving.processes import model_check
from serving.processes.model_check import ModelCheckError, StartCheck, check_apart, problem_with_models
from serving.processes.server_folder import ServerFolder
from tests.graphs import write_graph


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    write_graph(folder, "colours")
    write_graph(folder, "views", formula="transformation")
    monkeypatch.setenv("QUARTERTURN_MODELS", str(folder))
    return folder


@pytest.fixture
def server(tmp_path: Path) -> ServerFolder:
    (tmp_path / "server" / "states").mkdir(parents=True)
    return ServerFolder(tmp_path / "server")


Check = Callable[[ServerFolder], None]


@pytest.fixture(params=["start", "reload"])
def check(request: pytest.FixtureRequest) -> Check:
    return check_apart if request.param == "reload" else lambda server: StartCheck(server).finish()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*/*")}


def test_good_models_are_copied_and_nothing_else(models: Path, server: ServerFolder, check: Check) -> None:
    before = contents(models)
    (models / "views" / "README.md").write_text("a card")
    (models / "notes").mkdir()
    check(server)
    assert contents(server.models) == before
    (models / "colours" / "model.onnx").write_bytes(b"junk")  # in place
    assert contents(server.models) == before


def test_no_room_for_the_copies_names_their_folder(
    models: Path, server: ServerFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as a write has it, without a name

    monkeypatch.setattr(model_check, "load_collection", full)
    assert problem_with_models(server.path) == f"No space left on device: {server.path}"


def _second_classifier(models: Path) -> str:
    write_graph(models, "second", formula="msp")
    return "several classifiers are loaded (colours, second)"


def _copied_folder(models: Path) -> str:
    shutil.copytree(models / "views", models / "views-copy")
    return f"{models}/views-copy/model.onnx: the graph is named 'views'"


def _renamed_folder(models: Path) -> str:
    (models / "views").rename(models / "other")
    return f"{models}/other/model.onnx: the graph is named 'views'"


def _junk(models: Path) -> str:
    (models / "views" / "model.onnx").write_bytes(b"junk")
    return f"{models}/views/model.onnx: damaged, or no ONNX file"


def _no_folder(models: Path) -> str:
    shutil.rmtree(models)
    return f"the models folder {models} does not exist"


@pytest.mark.parametrize("spoil", [_second_classifier, _copied_folder, _renamed_folder, _junk, _no_folder])
def test_a_bad_folder_is_refused_by_name_and_the_last_good_one_stays(
    models: Path, server: ServerFolder, check: Check, spoil: Callable[[Path], str]
) -> None:
    check(server)
    before = contents(server.models)
    reason = spoil(models)
    with pytest.raises(ModelCheckError) as caught:
        check(server)
    assert str(caught.value).startswith(reason)
    assert contents(server.models) == before
    assert len(list((server.path / "states").iterdir())) == 1


def test_the_lock_file_is_checked(
    models: Path, server: ServerFolder, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = models.parent / "models.lock"
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in contents(models).items()]
    lock.write_text("".join(lines))
    monkeypatch.setenv("QUARTERTURN_LOCK_FILE", str(lock))
    check(server)
    write_graph(models, "third", formula="transformation")
    with pytest.raises(ModelCheckError, match=r"third/model\.onnx: is not in the lock file"):
        check(server)


def one_child() -> psutil.Process:
    """Wait for this process to have a child that checks models; other tests leave children of other kinds."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for child in psutil.Process().children():
            with suppress(psutil.Error):
                if "serving.processes.model_check" in child.cmdline():
                    return child
        time.sleep(0.001)
    raise AssertionError("no check was begun")


def test_a_check_that_is_killed_is_no_good_one(
    models: Path, server: ServerFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "sitecustomize.py").write_text("import time; time.sleep(60)")  # so that it is killed in time
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'slow'}")
    with ThreadPoolExecutor(1) as threads:
        checked = threads.submit(check_apart, server)
        one_child().kill()
        with pytest.raises(ModelCheckError, match="was killed"):
            checked.result()
    assert not server.models.exists()


def test_somebody_else_may_collect_its_status(models: Path, server: ServerFolder) -> None:
    (models / "views" / "model.onnx").write_bytes(b"junk")
    with ThreadPoolExecutor(1) as threads:
        checked = threads.submit(check_apart, server)
        with suppress(ChildProcessError):  # or this one comes too late
            os.waitpid(one_child().pid, 0)
        with pytest.raises(ModelCheckError, match="damaged"):
            checked.result()
