"""Shared batch norm: two processes with half a batch each do what torch's does with the whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn

from training.networks.shared_batch_norm import share_batch_norm

CPU = torch.device("cpu")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2))


def images() -> torch.Tensor:
    return torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def step(module: nn.Module, batch: torch.Tensor) -> dict[str, torch.Tensor]:
    """Run a batch forward and back; return outputs, statistics and gradients by name."""
    outputs = module(batch)
    (outputs.square() * torch.arange(1.0, 3.0)[:, None, None]).mean().backward()
    gradients = {f"gradient of {name}": value.grad for name, value in module.named_parameters()}
    return {"outputs": outputs.detach(), **module.state_dict(), **gradients}


def one_process(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    result = step(share_batch_norm(network(), CPU), images()[rank::2])
    torch.save(result, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_halves_are_normalised_as_the_whole(tmp_path: Path) -> None:
    multiprocessing.spawn(one_process, (str(tmp_path),), nprocs=2)
    halves = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    whole = step(network(), images())
    assert halves[0].keys() == halves[1].keys() == whole.keys()
    for rank in range(2):
        torch.testing.assert_close(halves[rank].pop("outputs"), whole["outputs"][rank::2])
    for name in halves[0]:
        both = [half[name] for half in halves]
        given = sum(both) / 2 if name.startswith("gradient") else both[0]
        torch.testing.assert_close(given, whole[name], msg=name)


def test_names_and_scores_stay() -> None:
    plain, shared = network().eval(), share_batch_norm(network(), CPU).eval()
    assert list(shared.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(shared(images()), plain(images()))
