"""TRADES (Zhang et al. 2019), with or without auxiliary rotations (Section 3.1, results)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.attacks.bare_network import BareNetwork
from training.attacks.training_attack import TrainingAttack
from training.data.augmentation import in_layout, to_network
from training.data.draws import Draws
from training.objectives.objective import Network
from training.objectives.rotated_copies import draw_rotations, rotation_losses, upright_logits
from training.precision import Precision
from training.recipe_tables.attacks import TradesSettings
from training.views import ViewGrid


def divergence(clean: Tensor, attacked: Tensor) -> Tensor:
    """KL(p(clean) || p(attacked)) of logits [N, K] each -> [N], at least 0; natural logarithm."""
    truth, guess = functional.log_softmax(clean, dim=-1), functional.log_softmax(attacked, dim=-1)
    return functional.kl_div(guess, truth, reduction="none", log_target=True).sum(dim=-1)


class Trades:
    """CE(y, p(x)) + ``beta`` x KL(p(x) || p(x')) + ``rotation_weight`` x rotation cross entropy of R_r(x').

    x' raises the KL divergence. Clean and attacked images are two passes, each normalised by its own batch, as in the
    code of TRADES.
    """

    def __init__(
        self, settings: TradesSettings, classes: int, precision: Precision, channels_last: bool = True
    ) -> None:
        self._settings = settings
        self._precision = precision
        self._channels_last = channels_last
        self._attack = TrainingAttack(settings.attack)
        self._grid = ViewGrid()
        self.heads = {"label": classes}
        self.views_per_image = 3 + self._attack.steps  # clean, clean for the attack, attacked
        if settings.rotation_weight > 0:
            self.heads |= self._grid.heads
            self.views_per_image += 3 if settings.rotation_views == "all" else 1

    def losses(self, network: Network, images: Tensor, labels: Tensor, draws: Draws) -> dict[str, Tensor]:
        """Return 'loss', 'label' (cross entropy of the clean images), 'kl' and, with a rotation head, 'rotation'."""
        settings, bare = self._settings, BareNetwork(network, self._precision)
        clean = to_network(images, self._channels_last)
        with torch.no_grad(), bare.in_mode(settings.attack.network_mode):
            truth = bare(clean)["label"]

        def loss_of(attacked: Tensor) -> Tensor:
            return divergence(truth, bare(attacked)["label"]).sum()

        attacked = self._attack(bare, loss_of, clean, draws)
        views, rotations = attacked, None
        if settings.rotation_weight > 0:
            rotations = draw_rotations(settings.rotation_views, len(images), images.device, draws)
            upright = torch.zeros_like(rotations[:, :1])
            shown = rotations if settings.rotation_views == "all" else torch.cat([upright, rotations], dim=1)
            views = in_layout(self._grid.take(attacked, shown), self._channels_last)
        # One pass through the wrappers and one beside them: DistributedDataParallel prepares one pass for one backward,
        # and reduces the gradients of both, as each parameter gathers its own before they are reduced.
        clean_logits = network(clean)["label"]
        logits = bare(views)
        losses = {
            "label": functional.cross_entropy(clean_logits, labels),
            "kl": divergence(clean_logits, upright_logits(logits, len(labels))).mean(),
        }
        loss = losses["label"] + settings.beta * losses["kl"]
        if rotations is not None:
            losses["rotation"] = rotation_losses(logits, rotations).mean()
            loss = loss + settings.rotation_weight * losses["rotation"]
        return {"loss": loss, **losses}
