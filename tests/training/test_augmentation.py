"""Augmentation: flip, then crop from zero padding, and every pixel accounted for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.data.augmentation import augment, to_network
from training.data.draws import Draws
from training.recipe import AugmentationSettings

CPU = torch.device("cpu")


def random_images(count: int, size: int, seed: int = 0) -> Tensor:
    pixels = np.random.default_rng(seed).integers(1, 256, (count, 3, size, size), np.uint8)
    return torch.from_numpy(pixels)


def possible(image: Tensor, flip: bool, padding: int) -> dict[bytes, tuple[bool, int, int]]:
    """Every augmentation of an image [3, size, size], by content: (mirrored, top, left)."""
    size = image.shape[-1]
    found = {}
    for mirrored in (False, True) if flip else (False,):
        shown = image.numpy()[:, :, ::-1] if mirrored else image.numpy()
        padded = np.pad(shown, ((0, 0), (padding, padding), (padding, padding)))
        for top in range(2 * padding + 1):
            for left in range(2 * padding + 1):
                crop = np.ascontiguousarray(padded[:, top : top + size, left : left + size])
                found[crop.tobytes()] = (mirrored, top, left)
    return found


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(5, 12), st.booleans(), st.integers(0, 3), st.integers(0, 1000))
def test_each_image_is_a_crop_of_itself_or_its_mirror(
    count: int, size: int, flip: bool, padding: int, step: int
) -> None:
    images = random_images(count, size)
    augmented = augment(images, AugmentationSettings(flip=flip, crop_padding=padding), Draws(0, step, count, CPU))
    assert (augmented.dtype, augmented.shape) == (torch.uint8, images.shape)
    for image, result in zip(images, augmented, strict=True):
        assert result.numpy().tobytes() in possible(image, flip, padding)


def test_all_of_them_occur_about_equally_often() -> None:
    image = random_images(1, 8)
    count = 50 * 18
    augmented = augment(
        image.expand(count, -1, -1, -1), AugmentationSettings(flip=True, crop_padding=1), Draws(0, 0, count, CPU)
    )
    contents = [result.numpy().tobytes() for result in augmented]
    kinds = possible(image[0], True, 1)
    assert len(kinds) == 18
    assert set(contents) == set(kinds)
    counts = [contents.count(content) for content in kinds]
    assert min(counts) > 25
    assert max(counts) < 85


def test_nothing_asked_nothing_done() -> None:
    images = random_images(3, 32)
    assert augment(images, AugmentationSettings(flip=False, crop_padding=0), Draws(0, 0, 3, CPU)) is images


def test_the_batch_is_left_as_it_was() -> None:
    images = random_images(3, 32)
    before = images.clone()
    augment(images, AugmentationSettings(flip=True, crop_padding=4), Draws(0, 0, 3, CPU))
    assert torch.equal(images, before)


def test_an_image_is_augmented_alike_however_the_batch_is_split() -> None:
    images, settings = random_images(8, 16), AugmentationSettings(flip=True, crop_padding=2)
    whole = augment(images, settings, Draws(1, 2, 8, CPU))
    for rank in range(4):
        assert torch.equal(augment(images[rank::4], settings, Draws(1, 2, 8, CPU, rank, 4)), whole[rank::4])


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_networks_input_is_in_0_to_1(channels_last: bool) -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(2, 3, 8, 8)
    scaled = to_network(images, channels_last)
    assert scaled.dtype == torch.float32
    torch.testing.assert_close(scaled[0, :, 0, 0], torch.tensor([0.0, 0.2, 1.0]))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert scaled.is_contiguous(memory_format=layout)
