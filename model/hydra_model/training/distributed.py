# SPDX-License-Identifier: Apache-2.0
"""Data-parallel training on the GPUs of a host, one process each (``torchrun``)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hydra_model.loading import choose_device


@dataclass(frozen=True)
class Process:
    """This process's place among all that train together."""

    rank: int
    ranks: int
    device: torch.device

    @property
    def leads(self) -> bool:
        return self.rank == 0


def join(device: str = "auto") -> Process:
    """Join the processes that ``torchrun`` started, or train alone.

    Raises ``ValueError`` for a device that is not there.
    """
    rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    place = choose_device(device)
    if place.type == "cuda":
        if ":" not in device:
            place = choose_device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}")
        torch.cuda.set_device(place)
    if ranks > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    return Process(rank, ranks, place)


def average_gradients(parameters: Iterable[nn.Parameter], process: Process) -> None:
    """Replace every gradient by its mean over all processes, in one exchange."""
    if process.ranks == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= process.ranks
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def agree(value: float, process: Process) -> float:
    """Return the leading process's ``value`` everywhere (for decisions that use a clock)."""
    if process.ranks == 1:
        return value
    shared: Tensor = torch.tensor([value], dtype=torch.float64, device=process.device)
    dist.broadcast(shared, 0)
    return float(shared)


def least(value: int, process: Process) -> int:
    """Return the smallest ``value`` of all processes (for what all have to do, or none)."""
    if process.ranks == 1:
        return value
    shared = torch.tensor(value, device=process.device)
    dist.all_reduce(shared, dist.ReduceOp.MIN)
    return int(shared)


def leave(code: int) -> NoReturn:
    """End this process without taking Python down first.

    PyTorch's caches of sharded tensors keep the process group, and gloo's threads with it, beyond
    ``destroy_process_group``: a Python that is taken down under them may abort.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
