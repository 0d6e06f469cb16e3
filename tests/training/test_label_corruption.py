"""Corrupted labels: the matrix, the draws, the trusted images, and what is recorded of them."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import chisquare

from tests.training.patterns import image_set
from training.data.image_set import DataError
from training.labels.corruption import corrupt, corrupted_labels, corruption_matrix
from training.recipe_tables.labels import LabelSettings

STRENGTHS, SEEDS, CLASSES = st.floats(0, 1), st.integers(0, 2**32), st.integers(2, 100)
IMAGES = image_set(per_class=20, size=8)


def labels_settings(
    strength: float = 0.5, trusted: float = 0.2, correction: str = "glc", seed: int = 0
) -> LabelSettings:
    return LabelSettings.model_validate(
        {"strength": strength, "trusted": trusted, "correction": correction, "seed": seed}
    )


@given(CLASSES, STRENGTHS)
def test_rows_of_the_matrix_are_distributions(classes: int, strength: float) -> None:
    matrix = corruption_matrix(classes, strength)
    assert matrix.shape == (classes, classes)
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1)


def test_the_matrix_by_hand() -> None:
    np.testing.assert_array_equal(corruption_matrix(3, 0.0), np.eye(3))
    np.testing.assert_allclose(corruption_matrix(4, 1.0), np.full((4, 4), 0.25))
    np.testing.assert_allclose(corruption_matrix(2, 0.6), [[0.7, 0.3], [0.3, 0.7]])


@given(st.lists(st.integers(0, 9), max_size=50), SEEDS)
def test_strength_0_leaves_labels(labels: list[int], seed: int) -> None:
    clean = np.array(labels, np.int64)
    assert np.array_equal(corrupt(clean, 10, 0.0, seed), clean)


@given(STRENGTHS, STRENGTHS, SEEDS)
def test_what_a_smaller_strength_changes_a_larger_one_changes_alike(one: float, other: float, seed: int) -> None:
    clean = np.arange(200) % 7
    weak, strong = (corrupt(clean, 7, strength, seed) for strength in sorted((one, other)))
    changed = weak != clean
    assert np.array_equal(strong[changed], weak[changed])


@given(STRENGTHS, SEEDS)
def test_draws_are_by_the_seed(strength: float, seed: int) -> None:
    clean = np.arange(300) % 5
    assert np.array_equal(corrupt(clean, 5, strength, seed), corrupt(clean, 5, strength, seed))
    assert not np.array_equal(corrupt(clean, 5, 1.0, seed), corrupt(clean, 5, 1.0, seed + 1))


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0])
def test_labels_become_others_as_the_matrix_says(strength: float) -> None:
    classes, each = 4, 5000
    clean = np.repeat(np.arange(classes), each)
    given_labels = corrupt(clean, classes, strength, seed=1)
    expected = each * corruption_matrix(classes, strength)
    for label in range(classes):
        counts = np.bincount(given_labels[clean == label], minlength=classes)
        assert chisquare(counts, expected[label]).pvalue > 1e-3


@given(STRENGTHS, st.floats(0.01, 0.5), st.integers(0, 1000))
def test_trusted_labels_never_change_and_each_class_has_its_share(strength: float, share: float, seed: int) -> None:
    found = corrupted_labels(IMAGES, labels_settings(strength, share, seed=seed))
    assert np.array_equal(found.labels[found.trusted], IMAGES.labels[found.trusted])
    each = np.bincount(IMAGES.labels[found.trusted], minlength=3)
    assert (each == int(np.ceil(max(share, 1 / 60) * 20 - 1e-9))).all()
    assert found.changed == int((found.labels != IMAGES.labels).sum())


def test_the_trusted_images_are_the_same_at_every_strength() -> None:
    weak, strong = (corrupted_labels(IMAGES, labels_settings(strength)) for strength in (0.1, 0.9))
    assert np.array_equal(weak.trusted, strong.trusted)
    other = corrupted_labels(IMAGES, labels_settings(0.1, seed=1))
    assert not np.array_equal(weak.trusted, other.trusted)


def test_the_record_counts_and_digests() -> None:
    settings = labels_settings(strength=0.7)
    found = corrupted_labels(IMAGES, settings)
    record = found.record(settings)
    assert (record["trusted"], record["untrusted"], record["strength"]) == (12, 48, 0.7)
    assert record["changed"] == found.changed / 48 > 0.2
    content = b"".join(
        int(value).to_bytes(8, "little")
        for label, trusted in zip(found.labels, found.trusted, strict=True)
        for value in (label, trusted)
    )
    assert record["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    distrusted = replace(found, trusted=np.zeros_like(found.trusted))
    assert distrusted.digest != found.digest


def test_a_class_without_an_image_to_trust_is_named() -> None:
    alone = IMAGES.take(np.array([0, 1, 2, 20, 21, 22, 40]))
    with pytest.raises(DataError, match="trust one of: ramp"):
        corrupted_labels(alone, labels_settings())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"strength": 1.01}, "less than or equal to 1"),
        ({"trusted": 1.0}, "less than 1"),
        ({"trusted": 0.0}, "'glc' needs trusted images"),
        ({"correction": "none"}, "'none' has no use for trusted images"),
        ({"correction": "forward"}, "'forward' has no use for trusted images"),
        ({"seed": -1}, "greater than or equal to 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        LabelSettings.model_validate({**labels_settings().model_dump(), **change})
