"""Adversarial training with auxiliary rotations (Section 3.1, equations 1 to 4)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.attacks.bare_network import BareNetwork
from training.attacks.training_attack import TrainingAttack
from training.data.augmentation import in_layout, to_network
from training.data.draws import Draws
from training.objectives.objective import Logits, Network
from training.objectives.rotated_copies import draw_rotations, rotation_losses, upright_logits
from training.precision import Precision
from training.recipe_tables.attacks import AdversarialSettings
from training.views import ViewGrid


class AdversarialTraining:
    """CE(y, p(x')) + ``rotation_weight`` x rotation cross entropy of attacked views; rotation weight 0 is plain PGD.

    Form 'separate': the upright copy for the classifier and each rotated copy for the rotation head form one batch and
    are each perturbed on their own. Form 'joint': one x' an image; the rotation head sees R_r(x').
    """

    def __init__(
        self, settings: AdversarialSettings, classes: int, precision: Precision, channels_last: bool = True
    ) -> None:
        self._settings = settings
        self._precision = precision
        self._channels_last = channels_last
        self._attack = TrainingAttack(settings.attack)
        self._grid = ViewGrid()
        self._shares_upright = settings.attack.form == "joint" and settings.rotation_views == "all"
        self.heads = {"label": classes}
        views = attacked_views = 1
        if settings.rotation_weight > 0:
            self.heads |= self._grid.heads
            rotations = 4 if settings.rotation_views == "all" else 1
            views = rotations if self._shares_upright else 1 + rotations
            attacked_views = views if settings.attack.rotation_weight > 0 else 1
        self.views_per_image = views + self._attack.steps * attacked_views

    def losses(self, network: Network, images: Tensor, labels: Tensor, draws: Draws) -> dict[str, Tensor]:
        """Return 'loss', 'label' (cross entropy of the attacked images) and, with a rotation head, 'rotation'."""
        if self._settings.rotation_weight == 0:
            attacked = self._attack_images(network, to_network(images, self._channels_last), labels, None, draws)
            loss = functional.cross_entropy(network(attacked)["label"], labels)
            return {"loss": loss, "label": loss}
        rotations = draw_rotations(self._settings.rotation_views, len(images), images.device, draws)
        if self._settings.attack.form == "separate":
            copies = to_network(self._views(images, rotations), self._channels_last)
            attacked = self._attack_copies(network, copies, labels, rotations, draws)
        else:
            upright = to_network(images, self._channels_last)
            attacked = self._views(self._attack_images(network, upright, labels, rotations, draws), rotations)
        logits = network(in_layout(attacked, self._channels_last))
        label_loss = functional.cross_entropy(upright_logits(logits, len(labels)), labels)
        rotation_loss = rotation_losses(logits, rotations).mean()
        loss = label_loss + self._settings.rotation_weight * rotation_loss
        return {"loss": loss, "label": label_loss, "rotation": rotation_loss}

    def _views(self, images: Tensor, rotations: Tensor) -> Tensor:
        """Return [N * views, C, size, size]: of each image the upright view first, its ``rotations`` last."""
        if self._shares_upright:
            return self._grid.take(images, rotations)
        return self._grid.take(images, torch.cat([torch.zeros_like(rotations[:, :1]), rotations], dim=1))

    def _attack_copies(
        self, network: Network, copies: Tensor, labels: Tensor, rotations: Tensor, draws: Draws
    ) -> Tensor:
        bare = BareNetwork(network, self._precision)

        def loss_of(attacked: Tensor) -> Tensor:
            return self._attack_loss(bare(attacked), labels, rotations)

        return self._attack(bare, loss_of, copies, draws, len(copies) // len(labels))

    def _attack_images(
        self, network: Network, upright: Tensor, labels: Tensor, rotations: Tensor | None, draws: Draws
    ) -> Tensor:
        bare = BareNetwork(network, self._precision)
        rotated = rotations if self._settings.attack.rotation_weight > 0 else None

        def loss_of(attacked: Tensor) -> Tensor:
            views = attacked if rotated is None else self._views(attacked, rotated)
            return self._attack_loss(bare(in_layout(views, self._channels_last)), labels, rotated)

        return self._attack(bare, loss_of, upright, draws)

    def _attack_loss(self, logits: Logits, labels: Tensor, rotations: Tensor | None) -> Tensor:
        """Return what the attack raises, summed over images."""
        loss = functional.cross_entropy(upright_logits(logits, len(labels)), labels, reduction="sum")
        if rotations is None:
            return loss
        return loss + self._settings.attack.rotation_weight * rotation_losses(logits, rotations).sum()
