"""The offline commands: what they print, and that what a user got wrong is one line and costs nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.training.checkpoints import disk_full_at, log_lines, same_weights
from tests.training.command_line import Done, contents, quarterturn, train_arguments
from tests.training.runs import write_images
from training.data.catalog import CATALOG
from training.recipe_files import recipe_paths
from training.run_folder import RunFolder

# Every figure that the paper prints for a model here, in percent, copied from its tables by hand.
PUBLISHED = {
    "cifar10-baseline": {"auroc_mean": 91.4},  # Figure 5
    "cifar10-rotations": {"auroc_mean": 96.2},  # Figure 5
    "cifar10-one-class-transformations": {  # Table 3, column Ours
        "auroc_airplane": 77.5,
        "auroc_automobile": 96.9,
        "auroc_bird": 87.3,
        "auroc_cat": 80.9,
        "auroc_deer": 92.7,
        "auroc_dog": 90.2,
        "auroc_frog": 90.9,
        "auroc_horse": 96.5,
        "auroc_ship": 95.2,
        "auroc_truck": 93.3,
        "auroc_mean": 90.1,
    },
}
TARGETS = {
    "cifar10-baseline": (["figure-5"], "Baseline", "msp"),
    "cifar10-rotations": (["figure-5"], "Rotations (Ours)", "rotations"),
    "cifar10-one-class-transformations": (["table-3"], "Ours", "transformations"),
}


@pytest.fixture(scope="module")
def stopped(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped after the first of two steps; tests work on copies."""
    path = tmp_path_factory.mktemp("stopped") / "run"
    done = train(data_root, path, "--max-minutes=0")
    assert done.status == 0, done.err
    return path


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))


@pytest.fixture
def root(data_root: Path, tmp_path: Path) -> Path:
    """A data root of the test's own."""
    return Path(shutil.copytree(data_root, tmp_path / "data"))


def train(data_root: Path, run: Path, *more: str, recipe: str = "own-classifier-32") -> Done:
    return quarterturn(*train_arguments(data_root, run, "optimiser.epochs=2", *more, recipe=recipe))


def test_recipes_as_json_are_what_a_program_needs() -> None:
    done = quarterturn("recipes", "--json")
    assert done.status == 0
    listed = {entry["name"]: entry for entry in json.loads(done.out)}
    assert listed.keys() == recipe_paths().keys()
    for name, entry in listed.items():
        assert entry.keys() == {"name", "targets", "row", "method", "published"}
        assert all(figure.keys() == {"metric", "value", "where", "derived"} for figure in entry["published"])
        if name.startswith("own-"):
            assert (entry["targets"], entry["published"]) == ([], [])
    for name, published in PUBLISHED.items():
        assert {figure["metric"]: figure["value"] for figure in listed[name]["published"]} == published
        assert not any(figure["derived"] for figure in listed[name]["published"])
    for name, (targets, row, method) in TARGETS.items():
        assert (listed[name]["targets"], listed[name]["row"], listed[name]["method"]) == (targets, row, method)


def test_recipes_for_a_reader_are_a_table() -> None:
    done = quarterturn("recipes")
    assert done.status == 0
    rows = {line.split()[1]: line for line in done.out.splitlines() if line.startswith("│ ")}
    rows.pop("│", None)  # what wrapped
    assert rows.keys() == recipe_paths().keys()
    assert "figure-5" in rows["cifar10-rotations"]
    assert "auroc_mean 96.2 " in rows["cifar10-rotations"]
    assert "Table" not in rows["own-classifier-32"]
    marked = {name for name, row in rows.items() if "*" in row}
    assert marked == {"cifar10-trades", "cifar10-trades-rotations"}
    assert "accuracy_pgd20 51.37* " in rows["cifar10-trades"]
    assert done.out.endswith("\n* follows from printed figures by arithmetic.\n")


def data_rows(root: Path) -> dict[str, list[str]]:
    done = quarterturn("data", "--root", root)
    assert done.status == 0, done.err
    rows = [line.strip("│ ").split("│") for line in done.out.splitlines() if line.startswith("│")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in rows}


def test_data_says_what_is_there_and_what_is_missing(tmp_path: Path) -> None:
    for name in ("svhn/test_32x32.mat", "photos/test/cat/1.png", ".cifar10-half/data_batch_1"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    rows = data_rows(tmp_path)
    assert list(rows) == [*(entry.name for entry in CATALOG), "photos"]
    assert [name for name, (there, *_) in rows.items() if there == "yes"] == ["svhn", "photos"]
    assert rows["svhn"][2] == "-"
    assert rows["photos"][1] == "a data set of your own"
    assert rows["cifar10"][2] == "--download cifar10 (170 MB)"
    assert rows["lsun"][2] == "test images of LSUN into lsun/test/CLASS/*, lsun/* or lsun.npy"


def test_data_of_a_root_that_is_not_there_is_all_missing(tmp_path: Path) -> None:
    rows = data_rows(tmp_path / "nowhere")
    assert {there for there, *_ in rows.values()} == {"no"}
    assert not (tmp_path / "nowhere").exists()


def test_data_that_cannot_be_fetched_is_an_error(tmp_path: Path) -> None:
    done = quarterturn("data", "--root", tmp_path, "--download", "lsun")
    assert done.error == "cannot download 'lsun'; can: cifar10, cifar100, svhn, textures"


def test_train_says_how_far_it_came(data_root: Path, run: Path) -> None:
    assert json.loads((run / "training.json").read_text())["step"] == 1
    done = train(data_root, run, "--resume")
    assert done.status == 0
    assert done.out == "own-classifier-32: step 2 of 2, 64 views in 0.0 min; finished\n"
    assert "step 2/2, loss " in done.err
    again = train(data_root, run, "--resume")
    assert again.out == done.out
    assert [line["step"] for line in log_lines(RunFolder(run))] == [1, 2]


def another_seed(data_root: Path, run: Path) -> Done:
    return train(data_root, run, "--resume", "--seed=1")


def another_rate(data_root: Path, run: Path) -> Done:
    return train(data_root, run, "--resume", "optimiser.lr=0.2")


def another_recipe(data_root: Path, run: Path) -> Done:
    return train(data_root, run, "--resume", recipe="own-one-class-32")


def another_image(data_root: Path, run: Path) -> Done:
    shutil.copytree(data_root, run.with_name("data"))
    next((run.with_name("data") / "photos" / "train" / "ramp").iterdir()).unlink()
    return train(run.with_name("data"), run, "--resume")


@pytest.mark.parametrize(
    ("attempt", "said"),
    [
        (train, "holds a run already; go on with it by --resume, or choose another --out"),
        (another_seed, "these differ: --seed (0 there, 1 here)"),
        (another_rate, "these differ: optimiser.lr (0.1 there, 0.2 here)"),
        (another_recipe, "name (own-classifier-32 there, own-one-class-32 here)"),
        (another_image, "are not those the run in"),
    ],
)
def test_what_is_not_this_run_is_refused_and_the_run_stays_byte_for_byte(
    data_root: Path, run: Path, attempt: Callable[[Path, Path], Done], said: str
) -> None:
    before = contents(run)
    assert said in attempt(data_root, run).error
    assert contents(run) == before


def test_a_damaged_checkpoint_is_named_and_stays(data_root: Path, run: Path) -> None:
    path = run / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:1000])
    before = contents(run)
    assert f"{path} is damaged" in train(data_root, run, "--resume").error
    assert contents(run) == before


def test_on_a_full_disk_the_run_can_go_on_later(data_root: Path, run: Path, tmp_path: Path) -> None:
    checkpoint = (run / "checkpoint.pt").read_bytes()
    names = sorted(contents(run))
    with disk_full_at(100_000):
        done = train(data_root, run, "--resume")
    assert done.error == f"could not write {run / 'checkpoint.pt'}: File too large; what was there is intact"
    assert (run / "checkpoint.pt").read_bytes() == checkpoint
    assert sorted(contents(run)) == names
    assert train(data_root, run, "--resume").status == 0
    assert train(data_root, tmp_path / "straight").status == 0
    assert same_weights(RunFolder(run), RunFolder(tmp_path / "straight"))


def test_on_a_full_disk_a_refused_first_write_leaves_the_run_as_it_was(data_root: Path, run: Path) -> None:
    before = contents(run)
    with disk_full_at(100):
        done = train(data_root, run, "--resume")
    assert done.error == f"could not write {run / 'recipe.json'}: File too large; what was there is intact"
    assert contents(run) == before


def test_a_loss_that_is_not_finite_is_said_and_the_last_checkpoint_kept(data_root: Path, tmp_path: Path) -> None:
    done = train(data_root, tmp_path / "run", "optimiser.lr=1e20", "optimiser.epochs=9")
    said = "the loss is not finite after step 2; the last checkpoint, before it, is kept. Lower optimiser.lr"
    assert done.error.startswith(said)
    checkpoint = RunFolder(tmp_path / "run").load_checkpoint()
    assert checkpoint["step"] == 1
    assert all(torch.isfinite(value).all() for value in checkpoint["network"].values())
    record = RunFolder(tmp_path / "run").training_record()
    assert (record["step"], record["finished"]) == (1, False)


def empty_class(root: Path) -> str:
    (root / "photos" / "train" / "zebra").mkdir()
    return f"class folder {root / 'photos' / 'train' / 'zebra'} is empty: put images of the class into it, or remove it"


def unreadable_image(root: Path) -> str:
    path = root / "photos" / "train" / "corner" / "005.png"
    path.write_bytes(path.read_bytes()[:200])
    return f"1 of 72 files will not do: {path}: "


def one_class(root: Path) -> str:
    for name in ("corner", "ramp"):
        shutil.rmtree(root / "photos" / "train" / name)
    return "a classifier needs at least two classes and 'photos' has 1; for a single class train a one-class recipe"


def no_data_set(root: Path) -> str:
    (root / "photos").rename(root / "pictures")
    return f"no data set 'photos' in {root} (there: pictures); `quarterturn data` says how to get one"


def no_root(root: Path) -> str:
    shutil.rmtree(root)
    return f"no data root {root}; `quarterturn data --root {root}` says how to fill one"


@pytest.mark.parametrize("spoil", [empty_class, unreadable_image, one_class, no_data_set, no_root])
def test_data_that_will_not_do_is_said_in_one_line(root: Path, tmp_path: Path, spoil: Callable[[Path], str]) -> None:
    said = spoil(root)
    assert train(root, tmp_path / "run").error.startswith(said)
    assert not (tmp_path / "run").exists()


def test_an_unreadable_image_is_left_out_only_when_asked(root: Path, tmp_path: Path) -> None:
    unreadable_image(root)
    assert "leave such files out with --set data.skip_unreadable=true" in train(root, tmp_path / "run").error
    done = train(root, tmp_path / "run", "data.skip_unreadable=true")
    assert done.status == 0
    assert f"left out: {root / 'photos' / 'train' / 'corner' / '005.png'}: " in done.err


def test_an_evaluation_says_what_it_can_do_about_an_unreadable_image_and_leaves_out_what_training_did(
    root: Path, tmp_path: Path
) -> None:
    """`evaluate` has no --set: it goes by the run's recipe."""
    write_images(root / "holiday", 3, 100, seed=0)
    sets = 'evaluation.ood=["holiday"]'
    for name, more in (("strict", []), ("lenient", ["data.skip_unreadable=true"])):
        assert train(root, tmp_path / name, sets, "optimiser.epochs=1", *more).status == 0
    bad = [root / "photos" / "test" / "ramp" / "1003.png", root / "holiday" / "001.png"]
    for path in bad:
        path.write_bytes(b"junk")
    assert quarterturn("evaluate", tmp_path / "strict", "--data", root).error.endswith("Remove them")
    bad[0].unlink()
    refused = quarterturn("evaluate", tmp_path / "strict", "--data", root)
    assert refused.error.startswith(f"{bad[1]}: ")
    assert refused.error.endswith("; remove the file")
    bad[0].write_bytes(b"junk")
    done = quarterturn("evaluate", tmp_path / "lenient", "--data", root)
    assert done.status == 0, done.err
    for path in bad:
        assert f"left out: {path}: " in done.err


def test_a_class_that_no_manifest_could_name_is_refused_before_training(root: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        (root / "photos" / split / "ramp").rename(root / "photos" / split / os.fsdecode(b"ramp\xff"))
    said = train(root, tmp_path / "run").error
    assert said == r"class folder ramp\udcff of photos/train has a name that is not UTF-8; rename it"
    assert not (tmp_path / "run").exists()


def test_data_shows_names_as_they_are_on_any_terminal(tmp_path: Path) -> None:
    for name in (b"[bold]defects[x]", b"odd\xff"):
        (tmp_path / os.fsdecode(name)).mkdir()
    done = quarterturn("data", "--root", tmp_path)
    assert done.status == 0, done.err
    assert "[bold]defects[x]" in done.out
    assert r"odd\udcff" in done.out.encode().decode(), "UTF-8 can say it"


def test_a_single_class_trains_a_one_class_model(root: Path, tmp_path: Path) -> None:
    one_class(root)
    assert train(root, tmp_path / "run", recipe="own-one-class-32").status == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("optimizer.lr=1", "unknown key 'optimizer'; did you mean 'optimiser'?"),
        ("optimiser.lr=-1", "optimiser.lr: Input should be greater than 0"),
        ("optimiser", "--set 'optimiser' is not KEY=VALUE"),
    ],
)
def test_a_setting_that_will_not_do_is_named(data_root: Path, tmp_path: Path, change: str, said: str) -> None:
    assert said in train(data_root, tmp_path / "run", change).error
    assert not (tmp_path / "run").exists()


def test_a_name_that_is_not_there_is_named(data_root: Path, tmp_path: Path) -> None:
    where = ["--data", data_root, "--out", tmp_path / "run"]
    assert quarterturn("train", "cifar10-rotation", *where).error.startswith(
        "no recipe 'cifar10-rotation'; did you mean 'cifar10-rotations'?"
    )
    assert quarterturn("train", "cifar10-rotations", *where, "--scale", "tiny").error == (
        "no scale 'tiny'; the scales are paper, cpu, smoke"
    )


@pytest.mark.parametrize("command", [("evaluate",), ("export", "--name", "x")])
def test_a_folder_that_is_no_run_is_named(data_root: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    done = quarterturn(command[0], tmp_path, "--data", data_root, *command[1:])
    assert done.error == f"{tmp_path} is not a run folder: it has no recipe.json"


def test_a_device_that_there_is_not_is_a_wrong_argument(data_root: Path, run: Path) -> None:
    done = quarterturn("evaluate", run, "--data", data_root, "--device", "tpu")
    assert done.status == 2
    assert "is auto, cpu or cuda" in done.err
