"""Feeds: an order by (seed, epoch) alone, from any step on, over any number of processes."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from serving.images.fitting import Fitting
from serving.images.image_file import resize_shorter_side
from tests.training.patterns import image_set
from training.data.feeds import MemoryFeed, StreamingFeed, make_feed
from training.data.image_set import DataError, ImageSet, OnDisk, open_image
from training.data.sources import load_images

CPU = torch.device("cpu")
LARGE = Fitting(size=224, shorter_side=256)

Batch = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture(scope="module")
def small() -> ImageSet:
    return image_set(per_class=7)


@pytest.fixture(scope="module")
def large(large_data_root: Path) -> ImageSet:
    return load_images(large_data_root, "photos", "train", LARGE)


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(one, other, strict=True)
    )


def test_an_epoch_shows_images_once_with_their_labels(small: ImageSet) -> None:
    feed = make_feed(small, 5, 0, CPU)
    assert isinstance(feed, MemoryFeed)
    assert (feed.batch, feed.steps_per_epoch) == (5, 4)
    known = {small.pixels.read(i, i + 1)[0].tobytes(): int(small.labels[i]) for i in range(len(small))}
    seen = []
    for images, labels in feed.epoch(3):
        assert (images.dtype, images.shape) == (torch.uint8, (5, 3, 32, 32))
        assert labels.dtype == torch.int64
        for image, label in zip(images, labels, strict=True):
            content = image.permute(1, 2, 0).contiguous().numpy().tobytes()
            assert known[content] == int(label)
            seen.append(content)
    assert len(set(seen)) == len(seen) == 20


def test_which_images_miss_an_epoch_changes(small: ImageSet) -> None:
    feed = make_feed(small, 5, 0, CPU)
    missed = set()
    for epoch in range(8):
        seen = {image.numpy().tobytes() for images, _ in feed.epoch(epoch) for image in images}
        every = {small.pixels.read(i, i + 1)[0].transpose(2, 0, 1).tobytes() for i in range(len(small))}
        missed |= every - seen
    assert len(missed) > 3


@pytest.mark.parametrize("which", ["small", "large"])
def test_the_order_is_of_seed_and_epoch(which: str, request: pytest.FixtureRequest) -> None:
    images: ImageSet = request.getfixturevalue(which)
    feed = make_feed(images, 4, 7, CPU)
    first = list(feed.epoch(2))
    assert same(list(make_feed(images, 4, 7, CPU).epoch(2)), first)
    assert not same(list(feed.epoch(3)), first)
    assert not same(list(make_feed(images, 4, 8, CPU).epoch(2)), first)


@pytest.mark.parametrize("which", ["small", "large"])
def test_from_the_middle_come_the_very_next_batches(which: str, request: pytest.FixtureRequest) -> None:
    images: ImageSet = request.getfixturevalue(which)
    feed = make_feed(images, 4, 0, CPU)
    whole = list(feed.epoch(1))
    assert same(list(feed.epoch(1, first_step=2)), whole[2:])


@pytest.mark.parametrize("which", ["small", "large"])
def test_processes_share_a_batch_out(which: str, request: pytest.FixtureRequest) -> None:
    images: ImageSet = request.getfixturevalue(which)
    whole = list(make_feed(images, 4, 0, CPU).epoch(0))
    parts = [list(make_feed(images, 4, 0, CPU, rank, 2).epoch(0)) for rank in range(2)]
    for step, (pixels, labels) in enumerate(whole):
        for rank in range(2):
            assert torch.equal(parts[rank][step][0], pixels[rank::2])
            assert torch.equal(parts[rank][step][1], labels[rank::2])


def test_fewer_images_than_a_batch_are_one_batch(small: ImageSet) -> None:
    feed = make_feed(small, 128, 0, CPU)
    assert (feed.batch, feed.steps_per_epoch) == (21, 1)
    two = make_feed(small, 128, 0, CPU, 1, 2)
    assert (two.batch, two.steps_per_epoch) == (20, 1)
    assert len(next(two.epoch(0))[0]) == 10


def test_a_batch_that_does_not_divide_is_refused(small: ImageSet) -> None:
    with pytest.raises(DataError, match="a batch of 5 images does not divide over 2 processes"):
        make_feed(small, 5, 0, CPU, 0, 2)


def test_no_images_is_refused(small: ImageSet) -> None:
    with pytest.raises(DataError, match="0 training images are too few"):
        make_feed(small.take(np.empty(0, np.int64)), 5, 0, CPU)


def test_large_images_stream_as_random_crops_of_the_resized_image(large: ImageSet) -> None:
    feed = make_feed(large, 4, 0, CPU)
    assert isinstance(feed, StreamingFeed)
    assert isinstance(large.pixels, OnDisk)
    resized = [np.asarray(resize_shorter_side(open_image(path), 256)) for path in large.pixels.paths]
    crops = {}
    for epoch in range(2):
        for images, labels in feed.epoch(epoch):
            assert (images.dtype, images.shape) == (torch.uint8, (4, 3, 224, 224))
            for image, label in zip(images, labels, strict=True):
                places = [place for place in range(12) if position(resized[place], image) is not None]
                assert len(places) == 1
                assert large.labels[places[0]] == label
                crops.setdefault(places[0], []).append(position(resized[places[0]], image))
    assert len(crops) == 12
    assert any(first != second for first, second in crops.values()), "another crop in another epoch"


def position(whole: np.ndarray, crop: torch.Tensor) -> tuple[int, int] | None:
    """Where ``crop`` [3, 224, 224] lies in ``whole`` [256, 256, 3], or None."""
    pixels = crop.permute(1, 2, 0).numpy()
    windows = np.lib.stride_tricks.sliding_window_view(whole[:, :, 0], (1, 224))[:33, :, 0]
    rows, columns = np.nonzero((windows == pixels[0, :, 0]).all(axis=-1))
    for top, left in zip(rows, columns, strict=True):
        if np.array_equal(whole[top : top + 224, left : left + 224], pixels):
            return int(top), int(left)
    return None


def test_images_smaller_than_the_crop_and_grey_ones_stream_too(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "photos" / "train" / "odd"
    folder.mkdir(parents=True)
    Image.new("L", (40, 30), 90).save(folder / "grey-and-small.png")
    Image.new("P", (224, 224), 3).save(folder / "palette.png")
    Image.new("RGBA", (500, 20), (10, 20, 30, 128)).save(folder / "strip.png")
    Image.new("I;16", (300, 700), 40000).save(folder / "deep.png")
    images = load_images(tmp_path, "photos", "train", LARGE)
    ((pixels, _),) = list(make_feed(images, 4, 0, CPU).epoch(0))
    assert pixels.shape == (4, 3, 224, 224)
    assert sorted(int(image[0].float().mean()) for image in pixels) == [0, 90, 132, 156]


def test_a_file_that_goes_bad_while_training_is_named(large_data_root: Path, tmp_path: Path) -> None:
    shutil.copytree(large_data_root, tmp_path, dirs_exist_ok=True)
    images = load_images(tmp_path, "photos", "train", LARGE)
    (tmp_path / "photos/train/ramp/002.jpg").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"^[^\n]*002\.jpg: no image[^\n]*$"):
        list(make_feed(images, 4, 0, CPU).epoch(0))


def test_workers_leave_no_open_files_behind(large: ImageSet) -> None:
    feed = make_feed(large, 4, 0, CPU)

    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    kept = [images for images, _ in feed.epoch(0)]
    kept.clear()
    before = open_files()
    for epoch in range(3):
        next(iter(feed.epoch(epoch)))  # an epoch given up half way
        kept = [images for images, _ in feed.epoch(epoch)]
        kept.clear()
    deadline = time.monotonic() + 20  # on a busy machine the last workers take a while to end
    while open_files() > before + 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert open_files() <= before + 2
