"""Starting a network from the weights of another one that may answer other questions: all but the heads must agree."""

from __future__ import annotations

from torch import Tensor, nn

Weights = dict[str, Tensor]
HEADS_PREFIX = "heads."


class WeightsError(ValueError):
    """Weights of a network that differs in more than its heads; the message names what differs."""


def start_from(module: nn.Module, weights: Weights) -> None:
    """Load ``weights`` into ``module``: its own heads that they lack stay as drawn, heads that it lacks are left out.

    Raises WeightsError, with ``module`` as it was, if the networks differ in more than which heads they have.
    """
    own = module.state_dict()
    shared = {name: value for name, value in weights.items() if name in own}
    odd = [name for name in own.keys() ^ weights.keys() if not name.startswith(HEADS_PREFIX)]
    odd += [name for name, value in shared.items() if value.shape != own[name].shape]
    if odd:
        raise WeightsError(f"these are weights of another network, which differs in {', '.join(sorted(odd))}")
    module.load_state_dict({**own, **shared})
