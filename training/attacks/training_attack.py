"""PGD as a training step uses it: a recipe's radius, steps, start and network mode."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from training.attacks.bare_network import BareNetwork
from training.attacks.pgd import pgd
from training.data.draws import Draws
from training.recipe_tables.attacks import TrainingAttackSettings

GAUSSIAN_START = 0.001  # TRADES: standard deviation of the start, of the range [0, 1]


class TrainingAttack:
    """Attacks a batch as ``settings`` say; the start comes from the step's own draws.

    In 'training' mode the attack's passes update batch norm's running statistics, as in the released code.
    """

    def __init__(self, settings: TrainingAttackSettings) -> None:
        self._settings = settings
        self.steps = settings.steps

    def __call__(
        self, network: BareNetwork, loss_of: Callable[[Tensor], Tensor], clean: Tensor, draws: Draws, copies: int = 1
    ) -> Tensor:
        """Return images that raise ``loss_of`` (a sum over images), in the ball around ``clean``, detached.

        ``clean`` float32 [N * copies, C, H, W] in [0, 1], the copies of an image one after the other.
        """
        settings = self._settings
        epsilon = settings.epsilon_255 / 255
        shape = (copies, *clean.shape[1:])
        noise = (
            draws.uniform(*shape) * epsilon if settings.start == "uniform" else draws.normal(*shape) * GAUSSIAN_START
        )
        with network.in_mode(settings.network_mode):
            return pgd(
                loss_of,
                clean,
                noise.reshape(clean.shape),
                epsilon=epsilon,
                step=settings.step_255 / 255,
                steps=settings.steps,
            )
