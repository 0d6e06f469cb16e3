from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serving.score import pipeline
from serving.score.image_files import FilesError
from serving.score.journal import JournalError
from serving.score.pipeline import FILES_PER_BATCH, Scorer
from serving.score.table import OutputError, Summary, score_table
from serving.settings import Settings
from tests.graphs import write_graph
from tests.serving.image_folders import save_greys

FILES = 5 * FILES_PER_BATCH + 3

# The command of a user, killed as `kill -9` would once so many batches are in the journal.
KILLED = """
import os, signal, sys
from serving import cli
from serving.score import journal

batches = int(sys.argv.pop(1))
flush = journal.Journal.flush

def flush_and_die(journal):
    global batches
    flush(journal)
    batches -= 1
    if batches == 0:
        os.kill(os.getpid(), signal.SIGKILL)

journal.Journal.flush = flush_and_die
cli.main()
"""
# A limit on the size of files stands in for a full disk.
FULL_DISK = """
import resource, signal, sys
from serving import cli

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
cli.main()
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_graph(folder, "colours")
    write_graph(folder, "views", formula="transformation")
    return folder


@pytest.fixture(scope="module")
def scorer(models: Path) -> Scorer:
    return Scorer.load(Settings(models=models, device="cpu"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_greys(tmp_path_factory.mktemp("photos"), [5 * index % 256 for index in range(FILES)])
    (folder / "00007.png").write_bytes(b"no image")
    (folder / "line\nbreak.txt").write_text("no image")
    return folder


def table(photos: Path, out: Path, scorer: Scorer, alpha: float = 0.05, restart: bool = False) -> Summary:
    return score_table([photos], out, scorer, alpha, restart=restart, progress=lambda done, total: None)


def command(code: str, number: int, photos: Path, out: Path, models: Path) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-c", code, str(number), "score", str(photos), "--models", str(models), "--out"]
    return subprocess.run([*arguments, str(out)], capture_output=True, text=True, timeout=120, check=False)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_summary_counts_files(tmp_path: Path, photos: Path, scorer: Scorer) -> None:
    out = tmp_path / "scores.jsonl"
    seen: list[tuple[int, int]] = []
    summary = score_table([photos], out, scorer, 0.05, progress=lambda done, total: seen.append((done, total)))
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 2 * (FILES + 1)
    anomalies = {row["path"] for row in rows if row["p_value"] is not None and row["p_value"] <= 0.05 / 2}
    flagged = {row["path"] for row in rows if row["is_anomaly"]}
    assert 0 < len(anomalies) < len(flagged) < FILES  # a row is about its model alone
    assert summary == Summary(0.05 / 2, files=FILES + 1, bad=2, anomalies=len(anomalies), kept=0)
    assert seen[0] == (0, FILES + 1)
    assert seen[-1] == (FILES + 1, FILES + 1)
    assert names(tmp_path) == ["scores.jsonl"]


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_file(
    tmp_path: Path, photos: Path, models: Path, scorer: Scorer, ending: str
) -> None:
    whole, out = tmp_path / f"whole{ending}", tmp_path / f"scores{ending}"
    table(photos, whole, scorer)
    killed = command(KILLED, 2, photos, out, models)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert names(tmp_path) == sorted([f".{out.name}.tmp", out.name + ".part", whole.name])
    part = out.with_name(out.name + ".part")
    with part.open("r+b") as stream:  # the last line is cut off in its midst, as a system that dies may leave it
        stream.truncate(part.stat().st_size - 20)
    summary = table(photos, out, scorer)
    assert summary.kept == FILES_PER_BATCH
    assert summary.files == FILES + 1
    assert out.read_bytes() == whole.read_bytes()
    assert names(tmp_path) == sorted([out.name, whole.name])


def test_a_file_that_could_not_be_read_is_read_once_it_may_be(
    tmp_path: Path, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``chmod`` leaves it, which changes neither its size nor its content."""
    photos = save_greys(tmp_path / "photos", range(FILES))
    locked, content = str(photos / "00000.png"), pipeline._content

    def no_entry(path: str, size: int) -> bytes:
        if path == locked:
            raise PermissionError(13, "Permission denied")
        return content(path, size)

    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    out = tmp_path / "scores.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_content", no_entry)
        with pytest.raises(KeyboardInterrupt):
            score_table([photos], out, scorer, 0.05, progress=interrupt)
    assert "Permission denied" in out.with_name("scores.jsonl.part").read_text()
    Path(locked).chmod(0o644)
    assert table(photos, out, scorer).bad == 0


def test_a_run_that_is_interrupted_leaves_no_half_written_rows(tmp_path: Path, photos: Path, scorer: Scorer) -> None:
    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_table([photos], tmp_path / "scores.csv", scorer, 0.05, progress=interrupt)
    assert names(tmp_path) == ["scores.csv.part"]


def test_the_command_says_what_it_went_on_from(tmp_path: Path, photos: Path, models: Path) -> None:
    out = tmp_path / "scores.csv"
    command(KILLED, 3, photos, out, models)
    done = command("import sys; sys.argv.pop(1); from serving import cli; cli.main()", 0, photos, out, models)
    assert done.returncode == 0, done.stderr
    assert f"{FILES - 1} of {FILES + 1} files scored, {3 * FILES_PER_BATCH} of them by the interrupted" in done.stdout


def test_another_alpha_does_not_go_on_from_there(tmp_path: Path, photos: Path, models: Path, scorer: Scorer) -> None:
    out = tmp_path / "scores.csv"
    command(KILLED, 1, photos, out, models)
    with pytest.raises(JournalError, match=r"alpha 0\.05, not alpha 0\.1"):
        table(photos, out, scorer, alpha=0.1)
    assert table(photos, out, scorer, alpha=0.1, restart=True).kept == 0


def test_a_full_disk_is_said_and_the_run_goes_on_later(
    tmp_path: Path, photos: Path, models: Path, scorer: Scorer
) -> None:
    out = tmp_path / "scores.csv"
    failed = command(FULL_DISK, 20_000, photos, out, models)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith(f"error: cannot write {out}: ")
    assert not out.exists()
    assert 0 < table(photos, out, scorer).kept < FILES


def test_an_earlier_file_stays_until_the_new_one_is_whole(
    tmp_path: Path, photos: Path, models: Path, scorer: Scorer
) -> None:
    out = tmp_path / "scores.csv"
    out.write_text("of an earlier run")
    command(KILLED, 1, photos, out, models)
    assert out.read_text() == "of an earlier run"
    table(photos, out, scorer)
    assert out.read_text().startswith("path,model,")


def test_the_output_does_not_score_itself(tmp_path: Path, scorer: Scorer) -> None:
    photos = save_greys(tmp_path / "photos", [1, 2, 3])
    out = photos / "scores.csv"
    for _ in range(2):
        assert table(photos, out, scorer) == Summary(0.05 / 2, files=3)
    assert names(photos) == ["00000.png", "00001.png", "00002.png", "scores.csv"]


def test_hostile_file_names_are_scored_like_others(tmp_path: Path, scorer: Scorer) -> None:
    photos = save_greys(tmp_path / "photos", [10] * 4)
    hostile = [b"caf\xe9\xff.png", b'a\n"b",c.png', b"=cmd|x.png", b"\x1b[31m.png"]
    for index, name in enumerate(hostile):
        (photos / f"{index:05}.png").rename(photos / os.fsdecode(name))
    out = tmp_path / "scores.jsonl"
    assert table(photos, out, scorer) == Summary(0.05 / 2, files=4)
    paths = {Path(json.loads(line)["path"]).name for line in out.read_text(encoding="utf-8").splitlines()}
    assert paths == {r"caf\xe9\xff.png", 'a\n"b",c.png', "=cmd|x.png", "\x1b[31m.png"}


@pytest.mark.parametrize("out", ["no/scores.csv", "folder.csv"])
def test_what_cannot_be_written_is_said_before_anything_is_scored(
    tmp_path: Path, photos: Path, scorer: Scorer, out: str
) -> None:
    (tmp_path / "folder.csv").mkdir()

    def never(done: int, total: int) -> None:
        raise AssertionError("scored before the output was opened")

    with pytest.raises(OutputError, match=f"cannot write .*{out}"):
        score_table([photos], tmp_path / out, scorer, 0.05, progress=never)


def test_nothing_to_score_leaves_nothing_behind(tmp_path: Path, scorer: Scorer) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FilesError):
        table(tmp_path / "empty", tmp_path / "scores.csv", scorer)
    assert names(tmp_path) == ["empty"]
