"""Collection: the graphs of a models folder, and which of them run for a request (design: HTTP API).

The default classifier runs, and with it the one-class graphs of the setting ``one_class``, or else those whose normal
is the classifier's whole training set: a narrower idea of normal would flag most of what the classifier knows. Where
no classifier is loaded, the one-class graphs of the setting run, or else those trained on a whole data set, or else
all.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from serving.errors import NoClassifierError, TwoClassifiersError, UnknownModelError, WrongKindError, unknown_name
from serving.graphs.graph import Graph, load_graph, read_graph
from serving.graphs.lock_file import LockFile, digest_of
from serving.graphs.providers import available_cores
from serving.settings import Settings, variable

GRAPH_FILE = "model.onnx"

_log = logging.getLogger(__name__)


class CollectionError(RuntimeError):
    """A models folder, or a choice of models in the settings, with which nothing can start."""


@dataclass(frozen=True)
class Selection:
    """The graphs that run for one request: at most one classifier, any number of one-class graphs, not none of both."""

    classifier: Graph | None
    one_class: tuple[Graph, ...]

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """All of them, the classifier first."""
        return ((self.classifier,) if self.classifier else ()) + self.one_class


@dataclass(frozen=True)
class Collection:
    """The loaded graphs, sorted by name, and those that run where a request names none."""

    graphs: tuple[Graph, ...]
    default: Selection

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the graphs, sorted."""
        return tuple(graph.name for graph in self.graphs)

    def get(self, name: str) -> Graph:
        """Return the graph of that name. Raises UnknownModelError."""
        for graph in self.graphs:
            if graph.name == name:
                return graph
        raise UnknownModelError(name, self.names)

    def classifier(self, name: str | None = None) -> Graph:
        """Return the classifier of that name, or the default one.

        Raises UnknownModelError, WrongKindError for a one-class graph, NoClassifierError where there is no default.
        """
        if name is None:
            if self.default.classifier is None:
                raise NoClassifierError
            return self.default.classifier
        graph = self.get(name)
        if graph.manifest.kind != "classifier":
            raise WrongKindError(name, graph.manifest.kind, "classifier")
        return graph

    def select(self, names: Sequence[str] = ()) -> Selection:
        """Return the graphs of those names, each once and in that order, or the default ones where there are none.

        Raises UnknownModelError and TwoClassifiersError.
        """
        if not names:
            return self.default
        chosen = [self.get(name) for name in dict.fromkeys(names)]
        classifiers = [graph for graph in chosen if graph.manifest.kind == "classifier"]
        if len(classifiers) > 1:
            raise TwoClassifiersError(graph.name for graph in classifiers)
        one_class = tuple(graph for graph in chosen if graph.manifest.kind == "one_class")
        return Selection(classifiers[0] if classifiers else None, one_class)


def load_selection(folder: Path, settings: Settings, names: Sequence[str]) -> Selection:
    """Load the graphs of those names alone, or, where there are none, those that run by default.

    Raises as ``load_collection``, and UnknownModelError and TwoClassifiersError.
    """
    if not names:
        return load_collection(folder, settings).default
    paths = {path.parent.name: path for path in _graph_paths(folder)}
    lock = _lock_file(settings, folder, list(paths.values()))
    for name in names:
        if name not in paths:
            raise UnknownModelError(name, sorted(paths))
    if lock is not None:
        for name in paths.keys() - set(names):
            lock.check(paths[name], read_graph(paths[name]))
    graphs = tuple(_load(paths[name], settings, lock) for name in dict.fromkeys(names))
    return Collection(graphs, Selection(None, ())).select(names)


def load_collection(
    folder: Path, settings: Settings, known: Sequence[Graph] = (), copies: Path | None = None
) -> Collection:
    """Load every ``NAME/model.onnx`` in the folder and settle what runs by default.

    A folder without that file is no model and is passed over; a file whose digest is that of a ``known`` graph is not
    loaded again. Each file is read once; the bytes that were loaded are also those checked against the lock file and
    those written to ``copies``, as another models folder. Raises CollectionError for a folder that is missing or has no
    model, a graph whose name is not its folder's, several classifiers of which none is set as the default, and a
    setting that names a model which is not there or of the other kind; LockError where ``settings.lock_file`` does not
    list just these files with their digests; GraphError and ProviderError as ``load_graph``; OSError where a copy
    cannot be written.
    """
    paths = _graph_paths(folder)
    lock = _lock_file(settings, folder, paths)
    with ThreadPoolExecutor(available_cores()) as threads:
        graphs = list(threads.map(lambda path: _load(path, settings, lock, known, copies), paths))
    return Collection(tuple(graphs), _default_selection(graphs, settings))


def _lock_file(settings: Settings, folder: Path, paths: Sequence[Path]) -> LockFile | None:
    """Return the lock file of the settings, once its names are found to be those of the folder. Raises LockError."""
    if settings.lock_file is None:
        return None
    lock = LockFile.read(settings.lock_file, folder)
    lock.check_names(paths)
    return lock


def _graph_paths(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise CollectionError(f"the models folder {folder} does not exist")
    paths = sorted(path for path in folder.glob(f"*/{GRAPH_FILE}") if path.is_file())
    if not paths:
        raise CollectionError(f"the models folder {folder} holds no model: no NAME/{GRAPH_FILE} in it")
    return paths


def _load(
    path: Path,
    settings: Settings,
    lock: LockFile | None = None,
    known: Sequence[Graph] = (),
    copies: Path | None = None,
) -> Graph:
    data = read_graph(path)
    if lock is not None:
        lock.check(path, data)
    digest = digest_of(data) if known else ""
    graph = next((graph for graph in known if graph.digest == digest), None)
    if graph is None:
        graph = load_graph(path, settings.device, settings.threads, settings.gpu or 0, data)
        _log.info("loaded %s (%s) on %s", graph.name, graph.digest, graph.provider)
    if graph.name != path.parent.name:
        raise CollectionError(f"{path}: the graph is named {graph.name!r}; its folder must have that name")
    if copies is not None:
        copy = copies / path.relative_to(path.parents[1])
        copy.parent.mkdir()
        copy.write_bytes(data)
    return graph


def _default_selection(graphs: Sequence[Graph], settings: Settings) -> Selection:
    classifier = _default_classifier(graphs, settings.default_classifier)
    if settings.one_class is not None:
        one_class = [_set_model(graphs, name, "one_class") for name in dict.fromkeys(settings.one_class)]
    else:
        one_class = _matching_one_class(graphs, classifier)
    if classifier is None and not one_class:
        raise CollectionError(f"{variable('one_class')} names no model and no classifier is loaded: nothing would run")
    return Selection(classifier, tuple(one_class))


def _default_classifier(graphs: Sequence[Graph], name: str | None) -> Graph | None:
    if name is not None:
        return _set_model(graphs, name, "classifier", "default_classifier")
    classifiers = [graph for graph in graphs if graph.manifest.kind == "classifier"]
    if len(classifiers) > 1:
        names = ", ".join(graph.name for graph in classifiers)
        raise CollectionError(
            f"several classifiers are loaded ({names}): say which runs by default, in {variable('default_classifier')} "
            "or with --default-classifier"
        )
    return classifiers[0] if classifiers else None


def _matching_one_class(graphs: Sequence[Graph], classifier: Graph | None) -> list[Graph]:
    """Return the one-class graphs whose normal is the classifier's whole training set.

    Where some of them are calibrated on the images that it is, or on images of the same name, these alone: the others
    are of before ``quarterturn calibrate``.
    """
    one_class = [graph for graph in graphs if graph.manifest.kind == "one_class"]
    whole = [graph for graph in one_class if graph.manifest.training_data.in_class is None]
    if classifier is None:
        return _calibrated_once(whole or one_class)
    digest = classifier.manifest.training_data.digest
    matching = [graph for graph in whole if graph.manifest.training_data.digest == digest]
    wanted = classifier.manifest.calibration
    alike = [  # at another size the same images have other pixels, and so another digest
        graph
        for graph in matching
        if graph.manifest.calibration.digest == wanted.digest or graph.manifest.calibration.data == wanted.data
    ]
    return alike or _calibrated_once(matching)


def _calibrated_once(graphs: list[Graph]) -> list[Graph]:
    """Return the graphs. Raises CollectionError where one of them is another one with a calibration of its own.

    Its alarms would be those of two calibrations, and alpha be divided by both.
    """
    seen: dict[tuple[object, ...], Graph] = {}
    for graph in graphs:
        manifest = graph.manifest
        same = (manifest.training_data.digest, manifest.normal, manifest.recipe.model_dump_json())
        other = seen.setdefault(same, graph)
        if other.manifest.calibration.digest != manifest.calibration.digest:
            raise CollectionError(
                f"{other.name!r} and {graph.name!r} are the same model, calibrated on different images: say which runs "
                f"by default, in {variable('one_class')} or with --one-class"
            )
    return graphs


def _set_model(graphs: Sequence[Graph], name: str, kind: str, field: str = "one_class") -> Graph:
    for graph in graphs:
        if graph.name == name:
            if graph.manifest.kind != kind:
                raise CollectionError(f"{variable(field)}: {name!r} is a {graph.manifest.kind} model, not a {kind} one")
            return graph
    known = [graph.name for graph in graphs if graph.manifest.kind == kind]
    raise CollectionError(f"{variable(field)}: {unknown_name('model', name, known)}")
