"""The view grid against numpy: which way a translation goes, and what the order of the two changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.views import ViewGrid, rotate, translate

DTYPES = (np.uint8, np.float32)


@st.composite
def images(draw: st.DrawFn, sizes: st.SearchStrategy[int]) -> NDArray[np.generic]:
    """Random images [N, 3, size, size] of a random type; nearly all pixels differ."""
    size = draw(sizes)
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    pixels = generator.integers(0, 256, (draw(st.integers(1, 3)), 3, size, size))
    return pixels.astype(draw(st.sampled_from(DTYPES)))


SMALL = images(st.integers(8, 40))
FEW = settings(max_examples=25)
GRID_SIZED = images(st.sampled_from([8, 32]))


@FEW
@given(SMALL, st.data())
def test_translation_moves_content_down_and_right(array: NDArray[np.generic], data: st.DataObject) -> None:
    size = array.shape[-1]
    vertical, horizontal = (data.draw(st.integers(1 - size, size - 1)) for _ in range(2))
    moved = translate(torch.from_numpy(array), vertical, horizontal).numpy()
    for y in range(max(0, vertical), min(size, size + vertical)):
        for x in (max(0, horizontal), min(size, size + horizontal) - 1):
            np.testing.assert_array_equal(moved[:, :, y, x], array[:, :, y - vertical, x - horizontal])


@FEW
@given(SMALL, st.data())
def test_translation_is_the_crop_of_the_reflect_padded_image(array: NDArray[np.generic], data: st.DataObject) -> None:
    size = array.shape[-1]
    step = size // 4
    vertical, horizontal = (data.draw(st.sampled_from([0, step, -step])) for _ in range(2))
    padded = np.pad(array, ((0, 0), (0, 0), (step, step), (step, step)), mode="reflect")
    top, left = step - vertical, step - horizontal
    crop = padded[:, :, top : top + size, left : left + size]
    np.testing.assert_array_equal(translate(torch.from_numpy(array), vertical, horizontal).numpy(), crop)


@FEW
@given(SMALL, st.integers(0, 3))
def test_rotation_is_counter_clockwise_as_numpys(array: NDArray[np.generic], turns: int) -> None:
    expected = np.rot90(array, turns, axes=(2, 3))
    np.testing.assert_array_equal(rotate(torch.from_numpy(array), turns).numpy(), expected)


def test_a_quarter_turn_brings_the_top_right_corner_to_the_top_left() -> None:
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 0, 7] = 1
    assert rotate(image, 1)[0, 0, 0, 0] == 1


@FEW
@given(GRID_SIZED)
def test_orders_give_the_same_views_under_other_labels(array: NDArray[np.generic]) -> None:
    size = array.shape[-1]
    one = ViewGrid.transformations(size).all_views(torch.from_numpy(array))
    other = ViewGrid.transformations(size, "translate_rotate").all_views(torch.from_numpy(array))
    for views, others in zip(one.numpy(), other.numpy(), strict=True):
        contents, other_contents = ([view.tobytes() for view in side] for side in (views, others))
        assert len(set(contents)) == 36, "all views differ, so that equal sets say something"
        assert set(contents) == set(other_contents)
        assert sum(a == b for a, b in zip(contents, other_contents, strict=True)) == 12


def test_the_views_that_keep_their_labels_are_the_unmoved_and_the_upright() -> None:
    image = torch.arange(32 * 32.0).reshape(1, 1, 32, 32)
    one, other = ViewGrid.transformations(32), ViewGrid.transformations(32, "translate_rotate")
    same = [cell for cell in one.cells if torch.equal(one.transform(image, *cell), other.transform(image, *cell))]
    assert same == [cell for cell in one.cells if cell[0] == 0 or cell[1:] == (0, 0)]


@FEW
@given(GRID_SIZED, st.sampled_from(["rotate_translate", "translate_rotate"]), st.data())
def test_take_gives_what_transform_gives(array: NDArray[np.generic], order: str, data: st.DataObject) -> None:
    tensor = torch.from_numpy(array)
    grid = ViewGrid.transformations(array.shape[-1], order)
    chosen = st.lists(st.integers(0, 35), min_size=3, max_size=3)
    views = torch.tensor([data.draw(chosen) for _ in range(len(tensor))])
    taken = grid.take(tensor, views).reshape(len(tensor), 3, *tensor.shape[1:])
    assert taken.dtype == tensor.dtype
    for image in range(len(tensor)):
        for place in range(3):
            expected = grid.transform(tensor[image : image + 1], *grid.cells[views[image, place]])[0]
            assert torch.equal(taken[image, place], expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("size", "step"), [(32, 8), (224, 56)])
def test_the_grid_of_section_4_2_1(size: int, step: int, dtype: type[np.generic]) -> None:
    grid = ViewGrid.transformations(size)
    assert grid.vertical == grid.horizontal == (0, step, -step)
    array = np.random.default_rng(0).integers(0, 256, (1, 3, size, size)).astype(dtype)
    views = grid.all_views(torch.from_numpy(array))
    assert views.shape == (1, 36, 3, size, size)
    assert torch.equal(grid.take(torch.from_numpy(array), torch.arange(36)[None]), views[0])
    padded = np.pad(array, ((0, 0), (0, 0), (step, step), (step, step)), mode="reflect")
    np.testing.assert_array_equal(views[0, 1].numpy(), padded[0, :, step : step + size, :size])  # 0 deg, (0, +step)


def test_labels_follow_the_cells_and_the_last_axis_runs_fastest() -> None:
    grid = ViewGrid.transformations(32)
    labels = grid.labels().tolist()
    assert labels[:4] == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 0]]
    assert len(labels) == len(grid) == 36
    for (rotation, vertical, horizontal), label in zip(grid.cells, labels, strict=True):
        assert [grid.rotations[label[0]], grid.vertical[label[1]], grid.horizontal[label[2]]] == [
            rotation,
            vertical,
            horizontal,
        ]


def test_an_axis_of_one_value_has_no_head() -> None:
    grid = ViewGrid()
    assert grid.heads == {"rotation": 4}
    assert grid.shape == (4,)
    assert grid.labels().tolist() == [[0], [1], [2], [3]]
    assert ViewGrid.transformations(32).shape == (4, 3, 3)


def test_view_0_is_the_untouched_image() -> None:
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(ViewGrid.transformations(32).all_views(image)[:, 0], image)


def test_the_manifest_records_the_grid() -> None:
    spec = ViewGrid.transformations(32, "translate_rotate").spec()
    assert (spec.rotations, spec.vertical, spec.horizontal) == ([0, 1, 2, 3], [0, 8, -8], [0, 8, -8])
    assert spec.order == "translate_rotate"
    assert spec.axes == spec.heads == ["rotation", "vertical", "horizontal"]
    assert spec.axis_lengths() == (4, 3, 3)
    assert ViewGrid().spec().axes == ["rotation"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"order": "rotate"}, "order 'rotate'"),
        ({"rotations": (1, 2)}, "must start with 0"),
        ({"vertical": (0, 8, 8)}, "twice"),
        ({"horizontal": ()}, "must start with 0"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(bad: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ViewGrid(**bad)  # type: ignore[arg-type]
