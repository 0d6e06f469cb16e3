"""Accuracy under attack as sentences, for a terminal and a model card."""

from __future__ import annotations

from typing import Any


def attack_lines(evaluation: dict[str, Any]) -> list[str]:
    """Return the figures of an evaluation's part 'adversarial', a sentence a line; [] without it."""
    section = evaluation.get("adversarial")
    if section is None:
        return []
    clean, masking, auto = section["clean"], section["masking"], section["auto_attack"]
    lines = [f"accuracy {_percent(clean['accuracy'])} % on {clean['count']} test images, clean, before attacks on them"]
    lines += [f"under PGD ({_pgd(section[key])}): {_result(section[key])}" for key in ("pgd20", "pgd100")]
    swept = ", ".join(f"{row['epsilon_255']:g}: {_percent(row['accuracy'])}" for row in section["sweep"])
    if swept:
        count = section["sweep"][0]["count"]
        lines.append(f"under PGD by radius in 255ths, {count} images, in percent: {swept}")
    spsa = section["spsa"]
    lines.append(
        f"under SPSA ({spsa['steps']} steps of {spsa['samples']} samples, no gradients): {_result(spsa)}; "
        f"PGD on the same images {_percent(spsa['accuracy_pgd20'])} %"
    )
    if auto is not None and "missing" in auto:
        lines.append(f"AutoAttack not measured: {auto['missing']}")
    elif auto is not None:
        lines.append(f"under AutoAttack ({auto['version']}): {_result(auto)}")
    failed = [name for name, holds in masking["checks"].items() if not holds]
    said = f"these FAIL: {'; '.join(failed)}" if failed else f"all {len(masking['checks'])} pass"
    lines.append(f"checks for masked gradients on {masking['count']} images: {said}")
    return lines


def _pgd(found: dict[str, Any]) -> str:
    return f"radius {found['epsilon_255']:g}/255, {found['steps']} steps of {found['step_255']:g}/255"


def _result(found: dict[str, Any]) -> str:
    return f"{_percent(found['accuracy'])} % of {found['count']} images (clean {_percent(found['clean_accuracy'])} %)"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
