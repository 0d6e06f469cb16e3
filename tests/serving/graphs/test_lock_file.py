from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from serving.graphs.collection import load_collection, load_selection
from serving.graphs.lock_file import LockError, LockFile, digest_of
from serving.settings import Settings
from tests.graphs import build_graph, write_graph


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_graph(tmp_path / "models", "colours")
    write_graph(tmp_path / "models", "views", formula="transformation")
    return tmp_path / "models"


def lock(folder: Path) -> str:
    """What `cd models && sha256sum */model.onnx` prints."""
    paths = sorted(folder.glob("*/model.onnx"))
    return "".join(f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.parent.name}/model.onnx\n" for p in paths)


def settings(folder: Path, text: str) -> Settings:
    lock_file = folder.parent / "models.lock"
    lock_file.write_text(text, encoding="utf-8")
    return Settings(models=folder, lock_file=lock_file)


def test_the_models_of_the_lock_file_are_loaded(folder: Path) -> None:
    assert load_collection(folder, settings(folder, lock(folder))).names == ("colours", "views")
    binary = lock(folder).replace("  ", " *")
    assert load_selection(folder, settings(folder, binary + "\n"), ["views"]).graphs[0].name == "views"


def test_a_changed_model_is_refused_by_name(folder: Path) -> None:
    locked = settings(folder, lock(folder))
    (folder / "views" / "model.onnx").write_bytes(build_graph("views").SerializeToString())
    with pytest.raises(LockError, match=r"views/model\.onnx: its sha256:[0-9a-f]{64} is not the one"):
        load_collection(folder, locked)
    with pytest.raises(LockError, match="views"):
        load_selection(folder, locked, ["colours"])


def test_a_model_more_or_less_is_refused_by_name(folder: Path) -> None:
    locked = settings(folder, lock(folder))
    write_graph(folder, "third", formula="msp")
    with pytest.raises(LockError, match=r"third/model\.onnx: is not in the lock file"):
        load_collection(folder, locked)
    (folder / "third" / "model.onnx").unlink()
    (folder / "views" / "model.onnx").unlink()
    with pytest.raises(LockError, match=r"lists views/model\.onnx, which is not in"):
        load_collection(folder, locked)


@pytest.mark.parametrize("text", ["", "\n", "colours/model.onnx\n", "abc  colours/model.onnx\n", "twice"])
def test_a_lock_file_that_is_none_is_refused(folder: Path, text: str) -> None:
    with pytest.raises(LockError, match=r"models\.lock"):
        load_collection(folder, settings(folder, lock(folder) * 2 if text == "twice" else text))
    with pytest.raises(LockError, match="cannot be read"):
        LockFile.read(folder / "none.lock", folder)


def test_what_is_loaded_are_the_bytes_that_were_checked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = settings(folder, lock(folder))
    path = folder / "views" / "model.onnx"
    digest = digest_of(path.read_bytes())
    check = LockFile.check

    def check_and_replace(lock: LockFile, path: Path, data: bytes) -> None:
        check(lock, path, data)
        path.write_bytes(build_graph(path.parent.name, formula="msp").SerializeToString())

    monkeypatch.setattr(LockFile, "check", check_and_replace)
    graph = load_collection(folder, locked).get("views")
    assert (graph.digest, graph.manifest.kind) == (digest, "one_class")


def test_a_digest_is_that_of_the_bytes() -> None:
    assert digest_of(b"abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
