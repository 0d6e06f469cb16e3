from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from serving.errors import ApiError
from serving.images.fitting import Fitting
from serving.requests.image_of_upload import fit_upload
from serving.requests.uploads import Upload

SMALL = Fitting(size=32, shorter_side=32)
LARGE = Fitting(size=48, shorter_side=64)


def png(pixels: np.ndarray) -> bytes:  # type: ignore[type-arg]
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def noise(size: int, seed: int = 0) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def test_an_upload_is_fitted_to_every_size_once() -> None:
    fitted = fit_upload(Upload(png(noise(32)), "a.png"), 0, [SMALL, LARGE, SMALL], 10_000)
    assert not isinstance(fitted, ApiError)
    assert {fitting: image.shape for fitting, image in fitted.items()} == {SMALL: (32, 32, 3), LARGE: (48, 48, 3)}
    np.testing.assert_array_equal(fitted[SMALL], noise(32))


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"hello", 415, "not_an_image"),
        (b"", 415, "not_an_image"),
        (png(noise(120)), 413, "image_too_large"),
        (png(noise(64))[:2000], 422, "undecodable_image"),
    ],
)
def test_what_is_wrong_with_an_upload_comes_back_with_its_place_and_name(data: bytes, status: int, code: str) -> None:
    error = fit_upload(Upload(data, "a.png"), 7, [SMALL], 10_000)
    assert isinstance(error, ApiError)
    assert (error.status, error.code, error.image, error.filename) == (status, code, 7, "a.png")


def test_an_upload_refused_while_reading_keeps_its_reason() -> None:
    cause = ApiError(413, "image_too_large", "too many bytes")
    error = fit_upload(Upload(b"", None, cause), 2, [SMALL], 10_000)
    assert isinstance(error, ApiError)
    assert error.body() == {"error": {"code": "image_too_large", "message": "too many bytes", "image": 2}}
