from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.report_runs import mean_auroc, row, write_run
from training.metrics import auroc
from training.recipe_files import load_recipe
from training.report.attack_tables import further_attacks_table
from training.report.basis import basis_of
from training.report.collect import collect
from training.report.document import svg_text
from training.report.figures_of_rows import measured, published, standard_error
from training.report.plots import attack_strength
from training.report.report import ReportError, write_report
from training.report.tables import figures_table, mark
from training.reproduce.targets import TARGETS
from training.score_curves import score_curves


def test_standard_error_by_hand() -> None:
    """1, 2, 3: deviation 1 over root 3."""
    assert standard_error([1.0, 2.0, 3.0]) == pytest.approx(3**-0.5)
    assert standard_error([1.0]) is None


def test_a_row_is_mean_and_standard_error_over_seeds_beside_the_printed_figure(tmp_path: Path) -> None:
    for seed, value in enumerate((0.90, 0.94)):
        write_run(tmp_path / f"{seed}", "cifar10-rotations", seed=seed, **mean_auroc("kl_rotation", value))
    table = figures_table(collect(tmp_path), TARGETS["figure-5"], "cpu")
    assert row(table, "Rotations (Ours)")[2:] == ["96.2", "92.0 ± 2.0", "-4.2", "900; 190 a set", "2", "cpu"]
    assert row(table, "Baseline")[2:] == ["91.4", "not run", "-", "-", "-", "cpu"]
    assert row(table, "Rotations + Outlier")[2:4] == ["-", "not run"]
    assert mark("cpu") in table.note


def test_scale_paper_is_not_marked(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "cifar10-baseline", scale="paper", **mean_auroc("msp", 0.9))
    table = figures_table(collect(tmp_path), TARGETS["figure-5"], "paper")
    assert mark("paper") == ""
    assert "Scale" not in table.note


def strengths(tmp_path: Path, seed: int, errors: dict[float, float]) -> None:
    for strength, error in errors.items():
        name = tmp_path / f"{seed}-{strength}"
        write_run(name, "cifar10-labels-none", [f"labels.strength={strength}"], seed=seed, accuracy=1 - error)


def test_a_sweep_is_averaged_where_it_is_whole(tmp_path: Path) -> None:
    """Seed 0 has every strength, seed 1 all but one: only the first counts."""
    sweep = load_recipe("cifar10-labels-none", "cpu").sweep
    assert sweep is not None
    values = [float(value) for value in sweep.values]
    errors = {value: 0.1 + 0.5 * value for value in values}
    strengths(tmp_path, 0, errors)
    strengths(tmp_path, 1, dict.fromkeys(values[1:], 0.9))
    (system,) = collect(tmp_path).systems
    found = measured(system, "error_mean", basis_of([system]))
    assert found is not None
    assert (found.mean, found.seeds) == (pytest.approx(sum(errors.values()) / len(errors)), 1)


def test_a_sweep_that_is_not_whole_says_how_much_is(tmp_path: Path) -> None:
    sweep = load_recipe("cifar10-labels-none", "cpu").sweep
    assert sweep is not None
    strengths(tmp_path, 0, {float(sweep.values[0]): 0.2})
    table = figures_table(collect(tmp_path), TARGETS["table-2"], "cpu")
    assert row(table, "CIFAR-10, No Correction, Normal")[3] == f"1 of {len(sweep.values)} run"


def test_other_settings_are_a_row_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "cifar10-rotations", ["objective.rotation_weight=1.0"], **mean_auroc("kl_rotation", 0.9))
    table = figures_table(collect(tmp_path), TARGETS["figure-5"], "cpu")
    assert row(table, "Rotations (Ours) [objective.rotation_weight=1.0]")[3] == "90.0"
    assert row(table, "Rotations (Ours) (`")[3] == "not run"


def test_what_is_not_whole_is_left_out_and_said(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name, "cifar10-baseline", seed=place) for place, name in enumerate("abcd")]
    training = json.loads((folders[0] / "training.json").read_text())
    (folders[0] / "training.json").write_text(json.dumps({**training, "finished": False, "step": 7}))
    (folders[1] / "evaluation.json").unlink()
    (folders[2] / "training.json").write_text(json.dumps({**training, "step": 69}))
    write_run(tmp_path / "e", "cifar10-baseline", seed=3)
    collection = collect(tmp_path)
    assert collection.left_out == [
        ("a", "not finished: step 7 of 70"),
        ("b", "not evaluated"),
        ("c", "the evaluation is of an earlier checkpoint"),
        ("e", "the same training as d"),
    ]
    assert [run.name for run in collection.systems[0].runs] == ["d"]


def test_printed_figures_are_those_of_the_target() -> None:
    """The clean accuracy that Section 3.2 prints is not the one of Table 1."""
    normal = load_recipe("cifar10-robustness-normal")
    figure = published(normal, "accuracy", TARGETS["figure-3"])
    assert figure is not None
    assert figure.value == 94.7


@pytest.fixture(scope="module")
def all_kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs with every section that a figure is drawn from."""
    runs = tmp_path_factory.mktemp("runs")
    attacks = [{"epsilon_255": float(radius), "accuracy": 0.6 - radius / 20} for radius in range(4, 11)]
    pgd = {name: {"accuracy": 0.4, "count": 50, "steps": 20, "epsilon_255": 4.0} for name in ("pgd20", "pgd100")}
    attacks = [attack | {"count": 50, "steps": 20} for attack in attacks]
    strength = [{"loss": loss, "accuracy": 0.5} for loss in (1.0, 2.0)]
    masking = {
        "count": 20,
        "steps": [{"steps": steps, **row} for steps, row in zip((1, 20), strength, strict=True)],
        "epsilons": [{"epsilon_255": radius, **row} for radius, row in zip((2.0, 8.0), strength, strict=True)],
        "checks": {"more steps raise the loss": True},
    }
    adversarial = {**pgd, "sweep": attacks, "masking": masking}
    write_run(runs / "attacked", "cifar10-adversarial", adversarial=adversarial)
    corrupted = {
        "origin": "generated",
        "count": 100,
        "accuracy": {"fog": {"severities": [0.5] * 5, "mean": 0.5}, "snow": {"severities": [0.7] * 5, "mean": 0.7}},
        "accuracy_mean": 0.6,
        "missing": ["frost"],
    }
    write_run(runs / "corrupted", "cifar10-robustness-normal", corruptions=corrupted)
    strengths(runs, 0, {0.0: 0.2, 1.0: 0.9})
    generator = np.random.default_rng(0)
    curves = score_curves(generator.normal(0, 1, 200), {"svhn": generator.normal(1, 1, 90)})
    write_run(runs / "scored", "cifar10-baseline", **mean_auroc("msp", 0.8, svhn=0.8), curves=curves)
    return runs


def test_the_report_is_markdown_and_one_page_that_needs_nothing_else(all_kinds: Path, tmp_path: Path) -> None:
    written, page = write_report(all_kinds, tmp_path / "report")
    text, html = written.read_text(), page.read_text()
    drawn = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert drawn == [
        "table-1-masking-cpu.svg",
        "figure-2-strength-cpu.svg",
        "figure-3-bars-cpu.svg",
        "figure-4-curves-cpu.svg",
        "figure-5-roc-cpu.svg",
        "figure-5-scores-cpu.svg",
    ]
    assert all((tmp_path / "report" / name).is_file() for name in drawn)
    assert html.count("<svg ") == len(drawn)
    assert not re.search(r"""(src|href)=["'](?!#)|url\((?!#)|@import""", html)  # but for links inside the page
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    for used in set(re.findall(r'(?:href="|url\()#([^")]+)', html)):
        assert used in ids
    assert "| frost |" in text  # a missing corruption is a condition, and so is the attack's radius
    assert "50 under 20-step PGD of radius 4/255" in text
    assert "0123456789ab+changes" in text


def test_a_drawing_is_the_same_for_the_same_runs(all_kinds: Path) -> None:
    systems = collect(all_kinds).systems
    drawn = [attack_strength(systems) for _ in range(2)]
    first, second = (svg_text(figure, "a") for figure in drawn if figure is not None)
    assert first == second


def under_attack(spsa: float, auto_attack: float | None, **checks: bool) -> dict[str, Any]:
    found = None if auto_attack is None else {"accuracy": auto_attack, "clean_accuracy": 0.5, "count": 197}
    return {
        "spsa": {"accuracy": spsa, "accuracy_pgd20": spsa - 0.1, "count": 49},
        "masking": {"checks": checks},
        "auto_attack": found,
    }


def test_further_attacks_stand_in_a_table_of_their_own(tmp_path: Path) -> None:
    """AutoAttack on some seeds says on how many; a failed check is named."""
    first = under_attack(0.4, 0.26, loss=True, radius=True)
    write_run(tmp_path / "a", "cifar10-adversarial", adversarial=first)
    write_run(
        tmp_path / "b", "cifar10-adversarial", seed=1, adversarial=under_attack(0.6, None, loss=True, radius=False)
    )
    write_run(tmp_path / "c", "cifar10-trades", adversarial=under_attack(0.3, None, loss=True))
    table = further_attacks_table(collect(tmp_path), TARGETS["table-1"], "cpu")
    assert table is not None
    failed = "FAIL: radius (1 of 2 runs)"
    assert row(table, "Adversarial Training (`")[1:] == [
        *("50.0 ± 10.0", "40.0 ± 10.0", "49", "26.0 (1 of 2 seeds)", "50.0 (1 of 2 seeds)", "197", failed, "2")
    ]
    assert row(table, "TRADES (`")[1:] == ["30.0", "20.0", "49", "-", "-", "-", "all pass", "1"]
    assert mark("cpu") in table.note
    assert further_attacks_table(collect(tmp_path), TARGETS["table-1"], "paper") is None


def test_no_folder_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="no folder"):
        write_report(tmp_path / "nothing", tmp_path)


def test_stored_curves_have_the_area_of_the_scores() -> None:
    generator = np.random.default_rng(1)
    normal, others = generator.normal(0, 1, 3000), {"near": generator.normal(0.5, 1, 500), "far": np.full(7, 9.0)}
    curves = score_curves(normal, others)
    for name, scores in others.items():
        area = np.trapezoid(curves["true_positive_rate"][name], curves["false_positive_rate"])
        assert area == pytest.approx(auroc(normal, scores), abs=0.01)
        assert sum(curves["counts"][name]) == len(scores)
    assert sum(curves["counts"]["normal"]) == 3000
    assert len(curves["bin_edges"]) == 51


def test_a_stored_curve_by_hand() -> None:
    """Normal 0, 1; others 0.5, 2: no false alarm flags one of two, every second normal flagged both."""
    curves = score_curves(np.array([0.0, 1.0]), {"x": np.array([0.5, 2.0])})
    at = dict(zip(curves["false_positive_rate"], curves["true_positive_rate"]["x"], strict=True))
    assert (at[0.0], at[0.49], at[0.5], at[1.0]) == (0.5, 0.5, 1.0, 1.0)
    assert score_curves(np.array([0.0]), {}) == {}
