"""The view grid: which rotated and translated copies of an image there are, and in which order.

The project's one definition of a transformation (design: Views): the training loss, evaluation and the exported graph
all use it. Images here are tensors [N, channels, size, size] of any dtype.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional

from serving.graphs.manifest import ViewAxis, ViewGridSpec

ROTATIONS = (0, 1, 2, 3)
TRANSLATION_SHARE = 4  # a translation is a quarter of the image: 8 pixels at 32, 56 at 224


def rotate(images: Tensor, quarter_turns: int) -> Tensor:
    """Rotate [..., size, size] images counter-clockwise by ``quarter_turns`` (numpy's rot90 in the image plane)."""
    return torch.rot90(images, quarter_turns, dims=(-2, -1))


def translate(images: Tensor, vertical: int, horizontal: int) -> Tensor:
    """Move the content of [N, C, size, size] images down by ``vertical`` and right by ``horizontal`` pixels.

    out[y, x] = in[y - vertical, x - horizontal], the border reflected without repeating the edge pixel: the crop at
    (pad - vertical, pad - horizontal) of the image reflect-padded by ``pad``.
    """
    if vertical == 0 and horizontal == 0:
        return images
    height, width = images.shape[-2:]
    pad = max(abs(vertical), abs(horizontal))
    padded = functional.pad(images, (pad, pad, pad, pad), mode="reflect")
    top, left = pad - vertical, pad - horizontal
    return padded[..., top : top + height, left : left + width]


@dataclass(frozen=True)
class ViewGrid:
    """Rotations x vertical x horizontal translations, composed in ``order``.

    ``rotations`` in quarter turns counter-clockwise, ``vertical`` and ``horizontal`` in pixels (positive: content moves
    down, right). An axis with a single value is no axis: it has no label and no head. View 0 is the untouched image.
    """

    rotations: tuple[int, ...] = ROTATIONS
    vertical: tuple[int, ...] = (0,)
    horizontal: tuple[int, ...] = (0,)
    order: str = field(default="rotate_translate")

    def __post_init__(self) -> None:
        if self.order not in ("rotate_translate", "translate_rotate"):
            raise ValueError(f"order {self.order!r} is neither 'rotate_translate' nor 'translate_rotate'")
        for name, values in self._all_axes().items():
            if not values or values[0] != 0 or len(set(values)) != len(values):
                raise ValueError(f"{name} {values} must start with 0 and hold no value twice")

    @classmethod
    def transformations(cls, size: int, order: str = "rotate_translate") -> ViewGrid:
        """Return the 4 x 3 x 3 grid of Section 4.2.1 for images of ``size`` pixels."""
        step = size // TRANSLATION_SHARE
        return cls(ROTATIONS, (0, step, -step), (0, step, -step), order)

    def _all_axes(self) -> dict[str, tuple[int, ...]]:
        return {"rotation": self.rotations, "vertical": self.vertical, "horizontal": self.horizontal}

    @property
    def heads(self) -> dict[str, int]:
        """Head name -> number of its classes, for each axis with more than one value."""
        return {name: len(values) for name, values in self._all_axes().items() if len(values) > 1}

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes that have a head, e.g. (4, 3, 3)."""
        return tuple(self.heads.values())

    @property
    def cells(self) -> list[tuple[int, int, int]]:
        """(rotation, vertical, horizontal) of each view, in grid order: the last axis runs fastest."""
        return list(product(self.rotations, self.vertical, self.horizontal))

    def __len__(self) -> int:
        return len(self.rotations) * len(self.vertical) * len(self.horizontal)

    def transform(self, images: Tensor, rotation: int, vertical: int, horizontal: int) -> Tensor:
        """Apply one transformation to all images [N, C, size, size]; values as in ``cells``."""
        if self.order == "rotate_translate":
            return translate(rotate(images, rotation), vertical, horizontal)
        return rotate(translate(images, vertical, horizontal), rotation)

    def all_views(self, images: Tensor) -> Tensor:
        """Return every view of every image: [N, C, size, size] -> [N, views, C, size, size], in grid order."""
        return torch.stack([self.transform(images, *cell) for cell in self.cells], dim=1)

    def labels(self) -> Tensor:
        """Return the class index of each view for each head: int64 [views, heads]."""
        axes = [values for values in self._all_axes().values() if len(values) > 1]
        return torch.tensor(list(product(*(range(len(values)) for values in axes))), dtype=torch.int64)

    def take(self, images: Tensor, views: Tensor) -> Tensor:
        """Return chosen views of each image: images [N, C, size, size], views int64 [N, k] -> [N * k, C, size, size].

        One gather over pixels, so that each image may have its own transformations at no cost per image. The map from
        target to source pixel is made by ``transform`` itself, from an image of pixel indices.
        """
        count, channels, height, width = images.shape
        sources = self._source_pixels(height, width, images.device)[views]
        flat = images.reshape(count, 1, channels, height * width).expand(-1, views.shape[1], -1, -1)
        picked = torch.gather(flat, 3, sources.unsqueeze(2).expand(-1, -1, channels, -1))
        return picked.reshape(count * views.shape[1], channels, height, width)

    @cache  # noqa: B019 - grids are few, frozen and small; a copy in every step would halt a GPU
    def _source_pixels(self, height: int, width: int, device: torch.device) -> Tensor:
        indices = torch.arange(height * width, dtype=torch.float64).reshape(1, 1, height, width)
        return self.all_views(indices).reshape(len(self), height * width).to(device, torch.int64)

    def spec(self) -> ViewGridSpec:
        """Return the grid as the manifest records it."""
        axes: list[ViewAxis] = [axis for axis in get_args(ViewAxis) if axis in self.heads]
        return ViewGridSpec(
            rotations=list(self.rotations),
            vertical=list(self.vertical),
            horizontal=list(self.horizontal),
            order="rotate_translate" if self.order == "rotate_translate" else "translate_rotate",
            axes=axes,
            heads=axes,
        )
