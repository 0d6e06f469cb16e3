"""Image files: those that a command line names, and those below the folders it names, always in the same order.

They are looked for anew at each iteration and none is kept, so that a folder of any size takes no memory. Paths are
texts, as ``str(Path)`` writes them: making Path objects took a fifth of the time that the rows of a file take.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from serving.printable import printable


class FilesError(ValueError):
    """Paths of which one is not there, or that hold no file."""


class ImageFiles:
    """The files named and all files below the folders named, each once.

    Sorted by name, the files of a folder before those of the folders in it. Hidden files and folders below a named
    folder are left out, and so are the ``exclude`` files. Links to folders are not followed; ``count`` says how many
    there are in ``linked_folders``. A folder that cannot be listed comes itself. Whether a file is an image shows only
    when it is read.
    """

    def __init__(self, paths: Sequence[Path], exclude: Sequence[Path] = ()) -> None:
        """Raises FilesError for a path that is not there."""
        for path in paths:
            if not path.exists():
                raise FilesError(f"{printable(path)}: no such file or folder")
        self.paths = tuple(dict.fromkeys(paths))
        self.linked_folders = 0  # as of the last count
        self._excluded_names = {path.name for path in exclude}
        self._excluded = {path.resolve() for path in exclude}
        named = set(self.paths)
        self._overlap = any(named.intersection(path.parents) for path in self.paths)

    def __iter__(self) -> Iterator[str]:
        return self._each([])

    def _each(self, links: list[str]) -> Iterator[str]:
        """Yield the files; put the links to folders that are passed by into ``links``."""
        if not self._overlap:
            yield from self._found(links)
            return
        seen: set[str] = set()  # only where a path lies below another one is there anything to find twice
        for path in self._found(links):
            if (key := os.path.normcase(path)) not in seen:
                seen.add(key)
                yield path

    def count(self) -> int:
        """Return how many files there are now. Raises FilesError where there is none."""
        links: list[str] = []
        count = sum(1 for _ in self._each(links))
        self.linked_folders = len(set(links))
        if count == 0:
            here = f"no files in {', '.join(map(printable, self.paths))}"
            raise FilesError(f"{here}; links to folders are not followed" if links else here)
        return count

    def _found(self, links: list[str]) -> Iterator[str]:
        for path in self.paths:
            if not path.is_dir():
                if not self._is_excluded(path.name, str(path)):
                    yield str(path)
                continue
            for file, name in _files_below(path, links):
                if not self._is_excluded(name, file):
                    yield file

    def _is_excluded(self, name: str, file: str) -> bool:
        return name in self._excluded_names and Path(file).resolve() in self._excluded


def _files_below(folder: Path, links: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the path and the name of each file."""
    unlisted: list[tuple[str, str]] = []

    def keep(error: OSError) -> None:
        unlisted.append((str(Path(error.filename)), ""))

    for directory, subfolders, names in os.walk(folder, onerror=keep):
        yield from unlisted
        unlisted.clear()
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        start = str(Path(directory, "x"))[:-1]  # "" for the working directory
        links += [start + name for name in subfolders if os.path.islink(start + name)]
        for name in sorted(names):
            if not name.startswith("."):
                yield start + name, name
    yield from unlisted
