from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serving import decoding
from serving.decoding import SMALL_BYTES, Decoder
from serving.errors import ApiError
from serving.manifest import Fitting
from serving.uploads import Upload
from tests.graphs import solid
from tests.pictures import encoded

FITTING = Fitting(size=32, shorter_side=32)
LARGE = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The thread that decoded each image, by its name."""
    names: list[str] = []
    fit = decoding.fit_upload

    def fit_and_note(*arguments: Any) -> Any:
        names.append(threading.current_thread().name)
        return fit(*arguments)

    monkeypatch.setattr(decoding, "fit_upload", fit_and_note)
    return names


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    decoder = Decoder(2, max_pixels=100_000)
    yield decoder
    decoder.close()


def uploads(*images: Any) -> list[Upload]:
    return [Upload(image if isinstance(image, bytes) else encoded(Image.fromarray(image)), "a.png") for image in images]


def test_small_files_are_decoded_where_they_are(decoder: Decoder, threads: list[str]) -> None:
    [one, two] = asyncio.run(decoder.fit(uploads(solid(1), solid(2)), [FITTING]))
    assert not isinstance(one, ApiError)
    assert not isinstance(two, ApiError)
    assert (one[FITTING] == 1).all()
    assert (two[FITTING] == 2).all()
    assert set(threads) == {"MainThread"}


def test_large_files_are_decoded_in_threads_in_their_order(decoder: Decoder, threads: list[str]) -> None:
    images = [LARGE, solid(7), LARGE, solid(9), LARGE]
    outcomes = asyncio.run(decoder.fit(uploads(*images), [FITTING]))
    greys = [int(outcome[FITTING][0, 0, 0]) for outcome in outcomes if not isinstance(outcome, ApiError)]
    assert (len(greys), greys[1], greys[3]) == (5, 7, 9)
    assert all(name.startswith("decode") for name in threads)


def test_few_bytes_of_many_pixels_are_decoded_in_a_thread(decoder: Decoder, threads: list[str]) -> None:
    image = encoded(Image.new("RGB", (300, 300), (5, 5, 5)))
    assert len(image) < SMALL_BYTES
    [outcome] = asyncio.run(decoder.fit(uploads(image), [FITTING]))
    assert not isinstance(outcome, ApiError)
    assert (outcome[FITTING] == 5).all()
    assert threads[-1].startswith("decode")


def test_errors_keep_their_place_and_limits_hold(decoder: Decoder) -> None:
    bomb = encoded(Image.new("RGB", (400, 400)))
    kept = ApiError(413, "image_too_large", "too many bytes")
    images = [*uploads(solid(1), b"junk", bomb), Upload(b"", "d.png", kept)]
    good, junk, large, unread = asyncio.run(decoder.fit(images, [FITTING]))
    assert not isinstance(good, ApiError)
    for outcome, code, index in (
        (junk, "not_an_image", 1),
        (large, "image_too_large", 2),
        (unread, "image_too_large", 3),
    ):
        assert isinstance(outcome, ApiError)
        assert (outcome.code, outcome.image) == (code, index)
    assert unread.body()["error"]["message"] == "too many bytes"  # type: ignore[union-attr]
