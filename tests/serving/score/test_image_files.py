from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.score.image_files import FilesError, ImageFiles


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/2.png", "b/1.png", "a.png", "z.png", "c/d/3.png", ".hidden/x.png", "b/.x.png"):
        touch(tmp_path / name)
    return tmp_path


def names(files: ImageFiles, folder: Path) -> list[str]:
    found = [str(Path(path).relative_to(folder)) for path in files]
    assert found == [str(Path(path).relative_to(folder)) for path in files], "another iteration finds other files"
    assert files.count() == len(found)
    return found


def test_files_below_a_folder_are_sorted_and_hidden_ones_left_out(folder: Path) -> None:
    assert names(ImageFiles([folder]), folder) == ["a.png", "z.png", "b/1.png", "b/2.png", "c/d/3.png"]


def test_a_file_named_is_taken_even_if_it_is_hidden(folder: Path) -> None:
    assert names(ImageFiles([folder / "b/.x.png", folder / ".hidden"]), folder) == ["b/.x.png", ".hidden/x.png"]


def test_each_file_comes_once_where_it_is_first_named(folder: Path) -> None:
    paths = [folder / "b/2.png", folder / "b", folder, folder / "c", folder / "b"]
    assert names(ImageFiles(paths), folder) == ["b/2.png", "b/1.png", "a.png", "z.png", "c/d/3.png"]


def test_the_excluded_are_left_out_however_they_are_written(folder: Path) -> None:
    excluded = folder / "c/../b/1.png"
    assert "b/1.png" not in names(ImageFiles([folder], exclude=[excluded]), folder)
    touch(folder / "c/1.png")
    assert "c/1.png" in names(ImageFiles([folder], exclude=[excluded]), folder)


@pytest.mark.parametrize("named", [".", "./b/..", "b", "./b//", "../{}/b", "{}", "{}/"])
def test_paths_are_those_that_path_objects_write(folder: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.chdir(folder)
    start = Path(named.format(folder.name if named.startswith("..") else folder))
    found = list(ImageFiles([start]))
    assert found == [str(Path(path)) for path in found]
    assert set(found) >= {str(start / path.name) for path in start.glob("[!.]*.png")} != set()
    assert list(ImageFiles([Path(path) for path in found])) == found
    assert (found[0] == "a.png") is (named == ".")


def test_links_to_folders_are_not_followed_and_links_to_files_are_files(folder: Path) -> None:
    (folder / "c/loop").symlink_to(folder)
    (folder / "c/link.png").symlink_to(folder / "a.png")
    (folder / "c/gone.png").symlink_to(folder / "nowhere")
    files = ImageFiles([folder / "c"])
    assert names(files, folder) == ["c/gone.png", "c/link.png", "c/d/3.png"]
    assert (files.count(), files.linked_folders) == (3, 1)


def test_a_folder_of_links_alone_says_that_they_are_not_followed(folder: Path) -> None:
    (folder / "links").mkdir()
    (folder / "links" / "album").symlink_to(folder / "c")
    with pytest.raises(FilesError, match=r"no files in .*links; links to folders are not followed"):
        ImageFiles([folder / "links"]).count()


def test_a_folder_that_cannot_be_listed_comes_itself(tmp_path: Path) -> None:
    """A path longer than the system takes stands in for one without permission, which a superuser would have."""
    deep, handle = tmp_path, os.open(tmp_path, os.O_RDONLY)
    while len(str(deep)) < 4096:
        os.mkdir("d" * 250, dir_fd=handle)
        inner = os.open("d" * 250, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        deep, handle = deep / ("d" * 250), inner
    os.close(handle)
    touch(tmp_path / "good.png")
    assert list(ImageFiles([tmp_path])) == [str(tmp_path / "good.png"), str(deep)]


def test_a_path_that_is_not_there_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FilesError, match=r"nowhere: no such file or folder"):
        ImageFiles([tmp_path, tmp_path / "nowhere"])
    touch(tmp_path / ".hidden")
    with pytest.raises(FilesError, match="no files in"):
        ImageFiles([tmp_path]).count()
