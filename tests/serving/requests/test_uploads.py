from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import ApiError
from serving.requests.uploads import (
    MAX_FILENAME_CHARACTERS,
    MAX_TEXT_BYTES,
    MAX_TEXT_FIELDS,
    Form,
    UploadLimits,
    read_form,
)
from tests.multipart import BOUNDARY, CONTENT_TYPE, body, part

LIMITS = UploadLimits(request_bytes=50_000, image_bytes=1000, images=3)
FIELDS = ("model", "top_k")
IMAGE = b"\x89PNG\r\n--" + BOUNDARY.encode()[:3] + b"\r\n\r\nnot the end"


def read(
    *chunks: bytes,
    content_type: str | None = CONTENT_TYPE,
    content_length: str | None = None,
    limits: UploadLimits = LIMITS,
) -> Form:
    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return asyncio.run(read_form(content_type, content_length, stream(), limits, FIELDS))


def refusal(*chunks: bytes, **options: object) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read(*chunks, **options)  # type: ignore[arg-type]
    return caught.value


def test_files_and_texts_come_out_in_order_and_byte_for_byte() -> None:
    form = read(
        body(
            part("top_k", b"3"),
            part("images", IMAGE, "a.png"),
            part("model", b"one"),
            part("images", b"", "empty.png"),
            part("model", b"two"),
        )
    )
    assert [(upload.filename, upload.data, upload.error) for upload in form.images] == [
        ("a.png", IMAGE, None),
        ("empty.png", b"", None),
    ]
    assert form.texts == {"top_k": ["3"], "model": ["one", "two"]}


@given(cuts=st.lists(st.integers(min_value=0, max_value=400), max_size=12))
def test_the_way_a_body_is_cut_into_chunks_changes_nothing(cuts: Sequence[int]) -> None:
    whole = body(part("images", IMAGE, "a.png"), part("top_k", b"2"), part("images", IMAGE * 2, "b.png"))
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    pieces = [whole[start:end] for start, end in pairwise(edges)]
    assert read(*pieces) == read(whole)


@given(st.binary(max_size=300), st.integers(0, 200), st.integers(0, 40))
def test_no_body_raises_anything_but_a_refusal(junk: bytes, place: int, removed: int) -> None:
    whole = body(part("images", IMAGE, "a.png"), part("top_k", b"2"))
    outcome = read_or_refusal(whole[:place] + junk + whole[place + removed :])
    assert outcome.status in (400, 413) if isinstance(outcome, ApiError) else outcome.images


def read_or_refusal(whole: bytes) -> Form | ApiError:
    try:
        return read(whole)
    except ApiError as error:
        return error


@pytest.mark.parametrize("name", ["files", "image", "alpha"])
def test_an_unknown_field_is_named(name: str) -> None:
    error = refusal(body(part("images", IMAGE, "a.png"), part(name, b"1")))
    assert (error.status, error.code) == (400, "unknown_field")
    assert repr(name) in error.message


def test_the_nearest_known_field_is_named() -> None:
    assert "did you mean 'images'?" in refusal(body(part("imags", IMAGE, "a.png"))).message


@pytest.mark.parametrize("address", [b"http://localhost/secret", b"some text"])
def test_text_in_the_images_field_is_refused_and_not_fetched(address: bytes) -> None:
    error = refusal(body(part("images", address)))
    assert (error.status, error.code) == (400, "bad_field")


def test_a_file_in_a_text_field_is_refused() -> None:
    error = refusal(body(part("images", IMAGE, "a.png"), part("top_k", b"3", "top_k.txt")))
    assert (error.status, error.code) == (400, "bad_field")
    assert "'top_k'" in error.message


@pytest.mark.parametrize(
    "content_type", [None, "", "application/json", "image/png", "application/x-www-form-urlencoded", "multipart/mixed"]
)
def test_another_media_type_is_refused(content_type: str | None) -> None:
    error = refusal(b"{}", content_type=content_type)
    assert (error.status, error.code) == (415, "not_multipart")


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=", b""),
        ("multipart/form-data; boundary=" + "x" * 300, b""),
        (CONTENT_TYPE, b"no boundary in here"),
        (CONTENT_TYPE, body(part("images", IMAGE, "a.png"))[:-6]),
        (CONTENT_TYPE, part("images", IMAGE, "a.png")),
        (CONTENT_TYPE, f"--{BOUNDARY}\r\nContent-Type: image/png\r\n\r\nx\r\n--{BOUNDARY}--\r\n".encode()),
        (CONTENT_TYPE, f"--{BOUNDARY}\r\nbad header\r\n\r\nx\r\n--{BOUNDARY}--\r\n".encode()),
        (CONTENT_TYPE, f"--{BOUNDARY}\r\nX: {'y' * 100_000}".encode()[:40_000]),
    ],
)
def test_a_malformed_body_is_refused(content_type: str, data: bytes) -> None:
    error = refusal(data, content_type=content_type)
    assert (error.status, error.code) == (400, "bad_multipart")


@pytest.mark.parametrize("data", [b"", body(), body(part("top_k", b"3")), body(part("images", b"", ""))])
def test_no_image_is_refused(data: bytes) -> None:
    error = refusal(data)
    assert (error.status, error.code) == (400, "no_images")


def test_an_announced_length_above_the_limit_is_refused_unread() -> None:
    async def unread() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    with pytest.raises(ApiError) as caught:
        asyncio.run(read_form(CONTENT_TYPE, "50001", unread(), LIMITS, FIELDS))
    assert (caught.value.status, caught.value.code) == (413, "request_too_large")


def test_the_limit_on_bytes_acts_while_reading() -> None:
    read_chunks = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read_chunks
        yield part("images", b"", "a.png")[:-2]
        while True:
            read_chunks += 1
            yield b"x" * 10_000

    with pytest.raises(ApiError) as caught:
        asyncio.run(read_form(CONTENT_TYPE, None, endless(), LIMITS, FIELDS))
    assert (caught.value.status, caught.value.code) == (413, "request_too_large")
    assert read_chunks <= 5


def test_a_file_of_the_largest_size_is_kept_and_one_byte_more_is_an_error_of_that_image() -> None:
    form = read(body(part("images", b"x" * 1000, "a.png"), part("images", b"x" * 1001, "b.png")))
    good, bad = form.images
    assert (len(good.data), good.error) == (1000, None)
    assert bad.data == b""
    assert bad.error is not None
    assert (bad.error.status, bad.error.code) == (413, "image_too_large")


def test_more_images_than_the_limit_are_refused() -> None:
    images = [part("images", IMAGE, f"{index}.png") for index in range(4)]
    assert len(read(body(*images[:3])).images) == 3
    error = refusal(body(*images))
    assert (error.status, error.code) == (413, "too_many_images")


@pytest.mark.parametrize(
    "texts",
    [
        [part("model", b"x" * (MAX_TEXT_BYTES + 1))],
        [part("model", b"x" * (MAX_TEXT_BYTES // 2 + 1))] * 2,
        [part("model", b"x")] * (MAX_TEXT_FIELDS + 1),
    ],
)
def test_long_texts_and_many_texts_are_refused(texts: list[bytes]) -> None:
    error = refusal(body(part("images", IMAGE, "a.png"), *texts))
    assert (error.status, error.code) == (400, "bad_field")


def test_as_many_texts_as_may_be_are_read() -> None:
    texts = [part("model", b"x" * (MAX_TEXT_BYTES // MAX_TEXT_FIELDS))] * MAX_TEXT_FIELDS
    assert len(read(body(part("images", IMAGE, "a.png"), *texts)).texts["model"]) == MAX_TEXT_FIELDS


def test_endless_empty_files_are_refused() -> None:
    error = refusal(body(*[part("images", b"", "")] * 200, part("images", IMAGE, "a.png")))
    assert (error.status, error.code) == (400, "bad_multipart")
    assert "too many parts" in error.message


def test_odd_file_names_are_kept_readable_and_short() -> None:
    form = read(body(part("images", b"1", "naïve 馬.png"), part("images", b"2", ""), part("images", b"3", "x" * 900)))
    assert [upload.filename for upload in form.images] == ["naïve 馬.png", None, "x" * MAX_FILENAME_CHARACTERS]


def test_text_that_is_not_utf8_is_no_fault() -> None:
    assert read(body(part("images", IMAGE, "a.png"), part("model", b"\xff\xfe"))).texts == {"model": ["��"]}
