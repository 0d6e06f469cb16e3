"""A trained classifier as the target of attacks: which test images it still gets right under each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training.attacks.bare_network import BareNetwork
from training.attacks.pgd import pgd
from training.data.image_set import ImageSet
from training.data.splits import share_of_each_class
from training.progress import track

Attack = Callable[[Tensor, Tensor], Tensor]  # (clean images, labels) -> attacked images

BATCH_CPU, BATCH_GPU = 100, 500


@dataclass(frozen=True)
class PgdAttack:
    """PGD's radius and step, of the range [0, 1], its number of steps, and which random start it takes."""

    epsilon: float
    step: float
    steps: int
    restart: int = 0


class Target:
    """A network in evaluation mode at float32, and the images it is attacked on.

    ``seed`` draws the random starts: the same whatever the batch, and for every network.
    """

    def __init__(self, network: nn.Module, images: ImageSet, seed: int, device: torch.device) -> None:
        module = network.to(device).to(memory_format=torch.channels_last).eval()
        self.network = BareNetwork(module.requires_grad_(False), "32-true")
        self.device = device
        self.batch = BATCH_GPU if device.type == "cuda" else BATCH_CPU
        self.classes = len(images.classes)
        self._images = images
        self._seed = seed

    def indices(self, limit: int) -> NDArray[np.int64]:
        """Return the indices of about ``limit`` images, 0 for all, of each class its share."""
        return share_of_each_class(self._images.labels, limit)

    def generator(self, restart: int = 0) -> np.random.Generator:
        """Return the generator of the random starts of one restart."""
        return np.random.default_rng([self._seed, restart])

    def batches(self, indices: NDArray[np.int64], description: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images float32 [n, 3, size, size] in [0, 1], labels [n]) on the device, behind a progress bar."""
        chosen = self._images.take(indices)
        starts = range(0, len(chosen), self.batch)
        for start in track(starts, description, len(starts)):
            pixels = torch.from_numpy(chosen.pixels.read(start, min(start + self.batch, len(chosen))).copy())
            labels = torch.from_numpy(chosen.labels[start : start + self.batch].copy())
            yield pixels.permute(0, 3, 1, 2).to(self.device).float() / 255, labels.to(self.device)

    def is_right(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return which images the network classifies as ``labels``: bool [n]."""
        with torch.no_grad():
            return self.network(images)["label"].argmax(dim=1) == labels

    def pgd(
        self, attack: PgdAttack, description: str, indices: NDArray[np.int64], *, wrong_too: bool = False
    ) -> tuple[NDArray[np.bool_], float]:
        """Attack the images at ``indices`` with PGD from a uniform start in the ball.

        Images that are wrong when clean are attacked only if ``wrong_too``. Returns which images are right both clean
        and attacked, bool [n], and the mean cross entropy, the attacked images' where they were attacked.
        """
        right, losses, generator = [], [], self.generator(attack.restart)
        for clean, labels in self.batches(indices, description):
            noise = torch.from_numpy(generator.random(clean.shape, dtype=np.float32) * 2 - 1).to(self.device)
            standing = self.is_right(clean, labels)
            chosen = torch.ones_like(standing) if wrong_too else standing
            attacked = clean.clone()
            if chosen.any():
                attacked[chosen] = self._pgd(attack, clean[chosen], labels[chosen], noise[chosen])
            with torch.no_grad():
                logits = self.network(attacked)["label"]
            losses.append(functional.cross_entropy(logits, labels, reduction="none"))
            right.append(standing & (logits.argmax(dim=1) == labels))
        return torch.cat(right).cpu().numpy(), float(torch.cat(losses).mean())

    def _pgd(self, attack: PgdAttack, clean: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        return pgd(
            lambda images: functional.cross_entropy(self.network(images)["label"], labels, reduction="sum"),
            clean,
            noise * attack.epsilon,
            epsilon=attack.epsilon,
            step=attack.step,
            steps=attack.steps,
        )

    def survivors(self, attack: Attack, description: str, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which images at ``indices`` are right both clean and under ``attack``; it sees those right clean."""
        right = []
        for clean, labels in self.batches(indices, description):
            standing = self.is_right(clean, labels)
            if standing.any():
                attacked = attack(clean[standing], labels[standing])
                standing[standing.clone()] = self.is_right(attacked, labels[standing])
            right.append(standing)
        return torch.cat(right).cpu().numpy()

    def clean(self, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which images at ``indices`` are right without an attack: bool [n]."""
        found = [self.is_right(clean, labels) for clean, labels in self.batches(indices, "classifying clean images")]
        return torch.cat(found).cpu().numpy()
